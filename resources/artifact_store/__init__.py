"""Content-addressed storage of the artifacts of stages."""
