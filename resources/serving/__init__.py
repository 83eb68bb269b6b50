"""Serves releases behind stable URLs."""
