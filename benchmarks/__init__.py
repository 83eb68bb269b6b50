"""How fast the project is, each figure against a named baseline that is measured in the same run."""
