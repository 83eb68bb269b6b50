"""Base models from outside the project."""
