"""Measuring a model: inference, metrics, load test and the report."""
