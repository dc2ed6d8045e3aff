"""Programs that train small networks, to compare optimizer state in low and in full precision."""
