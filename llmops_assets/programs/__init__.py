"""Programs: each runs as a separate process, reads a typed spec, writes a result, and can be started by hand."""
