"""Downloads base models from a model hub."""
