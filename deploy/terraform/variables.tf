variable "project" {
  description = "The project's id, such as my-pointer."
  type        = string
}

variable "region" {
  description = "Where the bucket and the functions are."
  type        = string
  default     = "us-central1"
}

variable "bucket" {
  description = "The bucket of the model store; a name that nobody else in the world has."
  type        = string
}

variable "model" {
  description = "Which of the store's models this is about (MODEL_NAME)."
  type        = string
  default     = "food"
}

variable "billing_account" {
  description = "Pays for the project, and gets a budget; such as 012345-6789AB-CDEF01."
  type        = string
}

variable "create_project" {
  description = "Make the project, and link the billing account; false where it is there already."
  type        = bool
  default     = true
}

variable "parent" {
  description = "folders/NUMBER or organizations/NUMBER that a new project belongs to; empty without an organization."
  type        = string
  default     = ""
}

variable "publishers" {
  description = "Who may publish versions: user:ana@example.com, group:…, serviceAccount:…"
  type        = set(string)
  default     = []
}

variable "operators" {
  description = "Who may promote and roll back, fold statistics and decide about corrections."
  type        = set(string)
  default     = []
}

variable "uploads" {
  description = "Let on_upload label what is put under uploads/ of this bucket; empty: it is not deployed."
  type        = string
  default     = ""
}

variable "rate_limit" {
  description = "RATE_LIMIT of the function."
  type        = string
  default     = "60/minute"
}

variable "monthly_budget" {
  description = "Mail at a half and nine tenths of this sum, and where the month is heading for it. It stops nothing."
  type        = number
  default     = 20
}

variable "currency" {
  description = "The billing account's currency."
  type        = string
  default     = "USD"
}

variable "github_repository" {
  description = "OWNER/NAME whose workflows may act as pointer-rollout, without a key; empty: none."
  type        = string
  default     = ""
}

variable "photos" {
  description = "The bucket of the photos that those workflows train on, which is there already; empty: they read none."
  type        = string
  default     = ""
}
