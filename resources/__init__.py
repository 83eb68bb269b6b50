"""Thin typed clients of the world outside: sources, store, ledger, compute, MLflow, serving."""
