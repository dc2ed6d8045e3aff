"""The demonstrations of ``python -m fastopt``."""
