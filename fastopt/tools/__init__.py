"""Tools around training: benchmarks, verification, the range test, trajectories, the registry of rules."""
