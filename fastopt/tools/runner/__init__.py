"""Programs of others that run with fastopt's optimizers: what ``fastopt run`` does."""
