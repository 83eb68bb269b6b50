"""Rows: reading, encoding and measuring them."""
