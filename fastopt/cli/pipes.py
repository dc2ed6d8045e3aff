"""A pipe whose reader has ended, as in ``python -m fastopt rules | head``."""

import os
import sys
from contextlib import suppress

__all__ = ["CLOSED_PIPE", "discard_output"]

# The exit code that a shell reports for programs that SIGPIPE has ended.
CLOSED_PIPE = 141


def discard_output() -> None:
    """Send the rest of the output nowhere, as the interpreter still writes it when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            with suppress(OSError):  # a stream without a file
                os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
