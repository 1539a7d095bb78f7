# Step 8: a budget, which stops nothing and writes mail.

data "google_project" "pointer" {
  project_id = var.project

  depends_on = [google_project_service.apis]
}

resource "google_billing_budget" "pointer" {
  billing_account = var.billing_account
  display_name    = "pointer"

  budget_filter {
    projects = ["projects/${data.google_project.pointer.number}"]
  }

  amount {
    specified_amount {
      currency_code = var.currency
      units         = tostring(var.monthly_budget)
    }
  }

  threshold_rules {
    threshold_percent = 0.5
  }

  threshold_rules {
    threshold_percent = 0.9
  }

  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }
}
