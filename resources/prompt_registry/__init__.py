"""Prompt registries: versions of templates, and aliases that people or releases move."""
