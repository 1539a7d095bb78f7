output "env" {
  description = "Step 5: terraform output -raw env > ../../functions/.env"
  value       = <<-END
    MODEL_STORE=gs://${var.bucket}/models
    MODEL_NAME=${var.model}
    ACCESS=public
    RATE_LIMIT=${var.rate_limit}
    FUNCTION_ACCOUNT=${google_service_account.serving.email}
    FUNCTION_LOCATION=${var.region}
    FUNCTION_MEMORY=512
    ${var.uploads == "" ? "" : "UPLOAD_BUCKET=${var.uploads}"}
  END
}

output "serving" {
  description = "The account that the functions run as, for admin_cli doctor --as."
  value       = google_service_account.serving.email
}

output "github" {
  description = "What the workflows' variables WORKLOAD_IDENTITY_PROVIDER and ROLLOUT_ACCOUNT are."
  value = {
    provider = one(google_iam_workload_identity_pool_provider.github[*].name)
    account  = one(google_service_account.rollout[*].email)
  }
}
