"""Denormals: numbers so near 0 that processors take many times as long for them.

Denormals are kept by default. A moment whose gradient stays 0 decays into denormals, and rounding holds it
there, as in NumPy. Measured: steps then take up to 2.7 times as long (Adam in float64, RMSprop in float32;
others 1.2 to 1.4). ``python -m benchmarks.denormals`` measures it. To flush them would give other bits than
the book's.

"flush" sets the mode of the thread for the step (`fastopt.engine.native.floatmode`). NumPy has no such mode
without a table of C structs for each system, so such a step needs compiled code from the first. The
reference has the same bits within that mode (``tests/test_denormals.py``).

No way was found that keeps the bits and is fast. float32 values that are computed in double precision don't
trap (20,000 products: 86 µs in single precision, 2.3 µs by way of doubles). But a compiler narrows such
operations again, float64 has no wider type, and a look at each piece for denormals would cost all steps.
"""

from dataclasses import dataclass, field
from typing import Any

from fastopt.checks import choice
from fastopt.engine.rules import check_flushing

__all__ = ["DenormalFields"]

known = choice("keep", "keep", "flush").metadata["check"]


def check_denormals(name: str, value: Any) -> Any:
    """Return what is to be done with denormals; raise ValueError if it can't be done here."""
    result = known(name, value)
    if result == "flush":
        check_flushing()
    return result


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class DenormalFields:
    """The field of this option.

    Parameters
    ----------
    denormals : {"keep", "flush"}, default "keep"
        Whether to keep numbers that are almost 0, or to flush them to 0. They are below 1.2e-38 (float32) or
        2.2e-308 (float64) in magnitude. The moments of a parameter whose gradient stays 0 decay into such
        numbers, which slow a step down. "keep" has NumPy's
        bits. "flush" takes them for 0 within the step, so that they don't slow it down, except in what `Muon`
        and `SOAP` compute in NumPy. It needs compiled code from the first step on, for which that waits.
    """

    denormals: str = field(default="keep", repr=False, metadata={"check": check_denormals})
