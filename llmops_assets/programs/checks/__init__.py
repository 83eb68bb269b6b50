"""Running a project's own checks, and judging what they report."""
