"""What runs in a process of its own: a typed spec in, a result out, runnable by hand."""
