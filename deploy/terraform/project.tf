# Step 1: the project, and what is switched on in it.

locals {
  apis = [
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudfunctions.googleapis.com",
    "eventarc.googleapis.com",
    "iamcredentials.googleapis.com",
    "pubsub.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "storage.googleapis.com",
  ]
  # gcloud and firebase-tools need these of their own projects, Terraform of this one.
  apis_for_terraform = [
    "cloudbilling.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "firebase.googleapis.com",
    "firebasehosting.googleapis.com",
    "iam.googleapis.com",
    "serviceusage.googleapis.com",
    "sts.googleapis.com",
  ]
}

resource "google_project" "pointer" {
  count    = var.create_project ? 1 : 0
  provider = google-beta.without_project

  name            = var.project
  project_id      = var.project
  billing_account = var.billing_account
  folder_id       = startswith(var.parent, "folders/") ? var.parent : null
  org_id          = startswith(var.parent, "organizations/") ? trimprefix(var.parent, "organizations/") : null
  deletion_policy = "PREVENT"

  labels = {
    firebase = "enabled"
  }
}

resource "google_project_service" "apis" {
  for_each = toset(concat(local.apis, local.apis_for_terraform))

  project            = var.project
  service            = each.value
  disable_on_destroy = false

  depends_on = [google_project.pointer]
}

resource "google_firebase_project" "pointer" {
  count    = var.create_project ? 1 : 0
  provider = google-beta

  project = var.project

  depends_on = [google_project_service.apis]
}
