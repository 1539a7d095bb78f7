# Steps 1 to 3, 5, 6 and 8 of docs/deploy.md as resources; steps 4, 7 and the secrets of 5 are commands.

terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.0"
    }
    google-beta = {
      source  = "hashicorp/google-beta"
      version = "~> 8.0"
    }
  }
}

provider "google" {
  project               = var.project
  region                = var.region
  user_project_override = true
  billing_project       = var.project
}

# Firebase's own resources are in the beta provider alone.
provider "google-beta" {
  project               = var.project
  region                = var.region
  user_project_override = true
  billing_project       = var.project
}

# Makes the project itself, before there is one that a request could be counted for.
provider "google-beta" {
  alias = "without_project"
}
