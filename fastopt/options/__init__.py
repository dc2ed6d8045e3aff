"""What every optimizer can be told besides its rule's hyperparameters: one module an option."""
