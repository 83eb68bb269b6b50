"""Dagster jobs that materialize no asset."""
