"""The chain's assets, one module per asset, named after it. What stages share belongs in `llmops_assets.stage`."""
