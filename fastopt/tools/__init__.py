"""Tools around training: `bench`, `verify` and their tables, the range test, the table of rules, the guide."""
