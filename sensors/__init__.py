"""Thin shells that read, decide purely, and answer with a run or a reason."""
