"""The training loop, its checkpoints and its progress. Methods are modules of `methods`."""
