"""Model registries: one version per checkpoint, and an alias on the one that production serves."""
