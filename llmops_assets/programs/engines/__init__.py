"""Serving engines: the program behind an endpoint, and a client of it."""
