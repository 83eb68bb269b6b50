"""LLMOps CI/CD on Dagster: the chain's assets, and everything that they need."""
