# Step 2: the bucket of the model store.

resource "google_storage_bucket" "models" {
  name                        = var.bucket
  project                     = var.project
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  versioning {
    enabled = true
  }

  depends_on = [google_project_service.apis]
}

# Every editor of the project may write to a new bucket. Each of these says who has the role, and so takes it away
# from editors, or the rules of access.tf bind nobody.
resource "google_storage_bucket_iam_binding" "no_editors" {
  for_each = toset(["roles/storage.legacyBucketOwner", "roles/storage.legacyObjectOwner"])

  bucket  = google_storage_bucket.models.name
  role    = each.value
  members = ["projectOwner:${var.project}"]
}
