"""Photo bytes to pixels, and heatmaps to overlays. May import `fair_queue`, `errors` and `photo.heic`."""
