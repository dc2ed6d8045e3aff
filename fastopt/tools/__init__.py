"""Tools around training: `bench`, `verify` and their tables, the range test, the rules, and the guide."""
