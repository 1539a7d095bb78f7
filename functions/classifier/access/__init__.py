"""Who may call, and how often. May import `errors`, `settings` and `logs`."""
