"""`llmops demo`: creates an example project and pushes it seven times to a running location."""
