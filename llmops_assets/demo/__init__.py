"""`llmops demo`: a project of its own, pushed seven times to a running location."""
