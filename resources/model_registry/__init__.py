"""Model registries: one version per checkpoint, and an alias for the version that production serves."""
