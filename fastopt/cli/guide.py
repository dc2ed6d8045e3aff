"""``fastopt guide``: the pages of the guide."""

import sys
from shutil import get_terminal_size

from fastopt.cli.command import UsageError, argument, command

__all__ = ["guide"]


@command(
    "list the pages of the guide, or show one",
    "Without a page it lists them. In a terminal a page is shown as by git help; the program is taken from "
    "PAGER.",
)
@argument("page", nargs="?", metavar="PAGE", help="the name of a page")
def guide(page: str | None, prog: str) -> None:
    """List the pages of the guide, or show one."""
    from fastopt.tools import guide as job
    from fastopt.tools.report import table

    if page is None:
        print(table(("page", "title"), job.contents(), left=(0, 1)))
        print(f"\nRead one by {prog} PAGE.")
        return
    try:
        text = job.page_text(job.page(page), get_terminal_size().columns)
    except ValueError as error:
        raise UsageError(f"argument PAGE: {error}") from None
    if sys.stdout is not None and sys.stdout.isatty():
        from pydoc import pager

        pager(f"{text}\n")
    else:
        print(text)
