"""The chain's assets, one module each, named as the asset. How any stage runs belongs in `llmops_assets.stage`."""
