"""Quantization backends and their file formats."""
