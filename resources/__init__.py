"""Thin typed clients of external systems: sources, store, ledger, compute, MLflow, serving."""
