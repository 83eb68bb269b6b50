"""Quantization backends and the formats that they write."""
