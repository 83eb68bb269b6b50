"""Performance benchmarks: each figure is compared with a named baseline measured in the same run."""
