"""`llmops init`: creates a runnable project, and checks project folders."""
