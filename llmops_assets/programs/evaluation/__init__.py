"""Evaluation of a model: inference, metrics, load test and report."""
