"""The context of a request, where neither release nor model says otherwise. The gateway reads it too."""

CONTEXT = 2048
"""Tokens of one request, including its answer."""
