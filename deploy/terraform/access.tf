# Step 3: who may do what.

locals {
  objects = "projects/_/buckets/${var.bucket}/objects/models/${var.model}"
  serving = "serviceAccount:${google_service_account.serving.email}"

  # Spelled, and not asked of the account: who is in a for_each has to be known before anything is made.
  rollout    = var.github_repository == "" ? [] : ["serviceAccount:pointer-rollout@${var.project}.iam.gserviceaccount.com"]
  publishers = setunion(var.publishers, local.rollout)
  operators  = setunion(var.operators, local.rollout)
}

resource "google_service_account" "serving" {
  project      = var.project
  account_id   = "pointer-serving"
  display_name = "Pointer, serving"

  depends_on = [google_project_service.apis]
}

# Reading is not restricted by name: without leave to list, Cloud Storage may not say that an object does not exist.
resource "google_storage_bucket_iam_member" "readers" {
  for_each = setunion(local.publishers, local.operators)

  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = each.value

  depends_on = [google_service_account.rollout]
}

resource "google_storage_bucket_iam_member" "serving_reads" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectViewer"
  member = local.serving
}

# objectCreator makes objects, and neither replaces nor deletes any.
resource "google_storage_bucket_iam_member" "serving_counts" {
  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectCreator"
  member = local.serving

  condition {
    title      = "feedback-and-stats"
    expression = "resource.name.startsWith('${local.objects}/feedback/') || resource.name.startsWith('${local.objects}/stats/')"
  }
}

resource "google_storage_bucket_iam_member" "publishers" {
  for_each = local.publishers

  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectCreator"
  member = each.value

  condition {
    title      = "versions"
    expression = "resource.name.startsWith('${local.objects}/versions/')"
  }

  depends_on = [google_service_account.rollout]
}

# To replace the pointer takes objectUser.
resource "google_storage_bucket_iam_member" "operators" {
  for_each = local.operators

  bucket = google_storage_bucket.models.name
  role   = "roles/storage.objectUser"
  member = each.value

  condition {
    title      = "pointer"
    expression = "resource.name == '${local.objects}/channels.json' || resource.name.startsWith('${local.objects}/stats/') || resource.name.startsWith('${local.objects}/feedback/')"
  }

  depends_on = [google_service_account.rollout]
}

# Lets operators try the function's permissions: admin_cli doctor --as.
resource "google_service_account_iam_member" "operators_try" {
  for_each = var.operators

  service_account_id = google_service_account.serving.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = each.value
}
