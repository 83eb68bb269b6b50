"""The assets of LLMOps CI/CD: one module per stage of the chain, and what assembles them."""
