# Step 10: GitHub's workflows act as an account of their own, by a token of theirs and without a key.

locals {
  from_github = var.github_repository == "" ? 0 : 1
}

resource "google_service_account" "rollout" {
  count = local.from_github

  project      = var.project
  account_id   = "pointer-rollout"
  display_name = "Pointer, rolling out"

  depends_on = [google_project_service.apis]
}

resource "google_iam_workload_identity_pool" "github" {
  count = local.from_github

  project                   = var.project
  workload_identity_pool_id = "github"

  depends_on = [google_project_service.apis]
}

resource "google_iam_workload_identity_pool_provider" "github" {
  count = local.from_github

  project                            = var.project
  workload_identity_pool_id          = google_iam_workload_identity_pool.github[0].workload_identity_pool_id
  workload_identity_pool_provider_id = "github"

  attribute_mapping = {
    "google.subject"       = "assertion.sub"
    "attribute.repository" = "assertion.repository"
  }
  attribute_condition = "assertion.repository == '${var.github_repository}' && assertion.ref == 'refs/heads/main'"

  oidc {
    issuer_uri = "https://token.actions.githubusercontent.com"
  }
}

resource "google_service_account_iam_member" "github_is_rollout" {
  count = local.from_github

  service_account_id = google_service_account.rollout[0].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.github[0].name}/attribute.repository/${var.github_repository}"
}

# The photos that a workflow trains on.
resource "google_storage_bucket_iam_member" "rollout_reads_photos" {
  count = var.github_repository == "" || var.photos == "" ? 0 : 1

  bucket = var.photos
  role   = "roles/storage.objectViewer"
  member = "serviceAccount:${google_service_account.rollout[0].email}"
}
