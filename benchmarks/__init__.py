"""The speed of every rule against its naive NumPy version, and of the start, for asv."""

import os

# What times steps is to time compiled ones; `start` says for itself what its processes do.
os.environ.setdefault("FASTOPT_COMPILE", "now")
