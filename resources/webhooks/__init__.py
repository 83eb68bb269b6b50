"""The webhook receiver: a process of its own that takes deliveries of Git servers and has the sensors look at once."""
