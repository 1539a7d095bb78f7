"""What an instance serves, and predictions with it. May import `registry`, `photo` and `storage`."""
