"""`llmops init`: makes a folder a project that runs."""
