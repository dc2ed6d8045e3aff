"""The speed of every rule against its naive NumPy version, and of the start, for asv."""
