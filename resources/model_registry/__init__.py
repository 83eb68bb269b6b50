"""Model registries: one version per checkpoint, and an alias for the one that production serves."""
