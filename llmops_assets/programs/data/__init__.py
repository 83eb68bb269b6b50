"""Data rows: reading, encoding and measuring them."""
