"""The command line. Each command is a function with its options above it; `program` has `main`."""
