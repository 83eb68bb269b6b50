"""Training methods, one module each; the catalog names them."""
