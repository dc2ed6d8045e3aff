"""What ``python -m fastopt`` runs: the optimizers at work, on digits and on surfaces."""
