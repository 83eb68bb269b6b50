"""Tests of behaviour, against real components; docs/contributing.md says how they are run."""

import os

# Before any library reads it. Three test processes share two cores: the threads of NumPy, PyTorch and llama.cpp would
# spin while they wait for each other. A training of 24 steps costs 21 CPU seconds and not 25.
os.environ.setdefault("OMP_NUM_THREADS", "1")
