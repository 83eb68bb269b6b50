"""Dagster sensors: they read state, call a pure decision, and return a run or a skip reason."""
