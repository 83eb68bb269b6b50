"""Models on disk: loading them, and checking a project's base model."""
