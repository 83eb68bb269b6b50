"""Models on disk: loading them, and checking what a project brings as its base model."""
