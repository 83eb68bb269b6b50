"""Shared by all programs: entry point, specs and results, errors."""
