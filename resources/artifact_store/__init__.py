"""Content-addressed storage of what stages make."""
