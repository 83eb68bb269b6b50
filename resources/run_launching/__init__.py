"""Launches Dagster's runs, in processes or pods."""
