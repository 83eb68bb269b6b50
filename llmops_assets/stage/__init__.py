"""How any stage runs: the asset around it, one execution, its evidence, its outcome and its metadata."""
