# Step 6: labels for what is uploaded.

data "google_storage_project_service_account" "storage" {
  count   = var.uploads == "" ? 0 : 1
  project = var.project

  depends_on = [google_project_service.apis]
}

resource "google_project_iam_member" "storage_publishes" {
  count = var.uploads == "" ? 0 : 1

  project = var.project
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${data.google_storage_project_service_account.storage[0].email_address}"
}

resource "google_project_iam_member" "serving_receives" {
  for_each = var.uploads == "" ? toset([]) : toset(["roles/eventarc.eventReceiver", "roles/run.invoker"])

  project = var.project
  role    = each.value
  member  = local.serving
}

resource "google_storage_bucket_iam_member" "serving_reads_uploads" {
  count = var.uploads == "" ? 0 : 1

  bucket = var.uploads
  role   = "roles/storage.objectViewer"
  member = local.serving
}

resource "google_storage_bucket_iam_member" "serving_labels_uploads" {
  count = var.uploads == "" ? 0 : 1

  bucket = var.uploads
  role   = "roles/storage.objectUser"
  member = local.serving

  condition {
    title      = "labels"
    expression = "resource.name.startsWith('projects/_/buckets/${var.uploads}/objects/uploads/') && resource.name.endsWith('.labels.json')"
  }
}
