"""State dicts and checkpoint files.

A file is read in an order in which nothing that it claims is used unchecked: the header; the sizes, which
must be the header's; the arrays; the checksum over both (`files`, `parsing`). Everything is then put in
place by one chain of C calls, as a step is. Members of ``.npz`` are stored, never deflated, so that no array
is larger than the file. `upgrades` reads the state dicts of commit 9d3eba2 with the names of that time;
``tests/checkpoints`` has one for each rule and option of then.
"""
