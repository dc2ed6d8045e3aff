"""``fastopt warmup``: compiles rules for later processes."""

from collections.abc import Sequence

import fastopt
from fastopt.cli.arguments import dtypes_option
from fastopt.cli.command import UsageError, argument, command

__all__ = ["warmup"]


@command(
    "compile rules once, for all later processes",
    "Without names: what programs of yours have used so far, or the book's six rules. Options that have "
    "kernels of their own count as rules: clip_norm, clip_norm_each, clip_value, accumulate; so do "
    "the adapters cs231n, dezero, nnfs, numpy_ml, sklearn.",
)
@argument("rules", nargs="*", metavar="RULE", help="names such as Adam SGD clip_norm sklearn")
@dtypes_option()
def warmup(rules: Sequence[str], dtypes: Sequence[str]) -> None:
    """Compile rules for later processes."""
    from fastopt.engine.compiling.folder import cache_folder, writable_folder

    if writable_folder() is None:
        raise UsageError(
            f"nothing can be kept in {cache_folder() or 'a cache, as there is no home folder'}: name a "
            "folder that can be written by FASTOPT_CACHE_DIR"
        )
    try:
        fastopt.warmup(rules or None, dtypes)
    except (ValueError, RuntimeError) as error:
        raise UsageError(str(error)) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what has been compiled so far is kept") from None
