"""What all stages share: the asset, one execution, gate evidence, outcomes and metadata."""
