"""Tests of behaviour, against real components; docs/contributing.md says how they are run."""

import os

# Before any library reads it. Three test processes share two cores: the threads of NumPy, PyTorch and llama.cpp would
# spin while they wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
