"""Containers of arrays: their layout, packing, rows and copies, and gradients as a whole."""
