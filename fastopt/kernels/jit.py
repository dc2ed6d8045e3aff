"""The compile policy of everything here, and a disk cache that never stops a program."""

import hashlib
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from numba import config, njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

__all__ = ["compiled", "internal"]


@cache
def sources_digest() -> str:
    """Return a digest of all sources that are compiled."""
    package = Path(__file__).parents[1]
    files = sorted(file for folder in ("engine", "kernels") for file in (package / folder).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class SafeCache(FunctionCache):
    """Numba's disk cache, in which a damaged, foreign or unwritable file costs one warning at most."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # Numba notices edits in the function's own file only, but what it calls, and the offsets and field
        # names that are compiled into it, are in others.
        stamp = self._impl.locator.get_source_stamp(), sources_digest()
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what was compiled for a signature, or None if it has to be compiled."""
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:  # of pickle or the file system, whatever the damage leads to
            warn_once(f"what is cached in {self.cache_path} can't be read ({error!r}); it is compiled anew")
            return None
        # Processes that start at once may number the files of two signatures alike.
        return found if found is None or tuple(found.signature.args) == tuple(sig) else None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled for a signature."""
        try:
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:  # a damaged index: start another
                self.flush()
                super().save_overload(sig, data)
        except Exception as error:
            warn_once(f"{self.cache_path} can't be written ({error!r}), so each process compiles for itself")


def compiled(
    function: Callable[..., Any],
    *,
    parallel: bool = False,
    fastmath: Any = False,
    is_cached: bool = True,
    is_internal: bool = False,
) -> Any:
    """Compile on first use and cache on disk.

    ``error_model="numpy"``, since the check for a zero divisor stops vectorization, and no
    ``fastmath``, since each of its flags costs bits or NaN. Where no folder for the cache can be
    written (``NUMBA_CACHE_DIR`` names another), each process compiles for itself. What only compiled code
    calls is internal: it gets no entry for Python, which takes a fifth of the time. (A call from Python would
    end the process.)
    """
    wrappers = {"no_cfunc_wrapper": True, "no_cpython_wrapper": is_internal}
    dispatcher = njit(error_model="numpy", parallel=parallel, fastmath=fastmath, **wrappers)(function)
    if is_cached and not config.DISABLE_JIT:
        try:
            dispatcher._cache = SafeCache(function)
        except RuntimeError:  # Numba found no folder that it may write to
            warn_once(
                "fastopt compiles anew in every process: neither its own folder nor the user's cache can be "
                "written; set NUMBA_CACHE_DIR to a folder that can"
            )
    return dispatcher


internal = partial(compiled, is_internal=True)


def warn_once(message: str) -> None:
    """Warn, unless this process has been warned."""
    global warned
    if not warned:
        warned = True
        warnings.warn(message, RuntimeWarning, stacklevel=3)


warned = False
