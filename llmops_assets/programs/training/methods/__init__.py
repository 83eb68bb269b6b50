"""Training methods, one module each; the catalog lists them."""
