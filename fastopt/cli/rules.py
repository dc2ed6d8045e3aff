"""``fastopt rules``: the rules, and what they are called in other libraries."""

from collections.abc import Sequence
from pathlib import Path
from shutil import get_terminal_size

from fastopt.cli.command import UsageError, command, exclusive, option

__all__ = ["rules"]


@command(
    "list the rules with their states, arguments and sources",
    "Bytes are those that a step reads and writes for each number in a parameter.",
)
@exclusive(
    option(
        "--from",
        nargs=2,
        metavar=("LIBRARY", "CALL"),
        dest="call",
        help="say what to write instead of another library's constructor, such as "
        "--from torch 'SGD(lr=0.1, momentum=0.9)'; libraries: torch, optax, keras, mlx, or authors for "
        "packages such as schedulefree",
    ),
    option(
        "--peers",
        action="store_true",
        help="try many settings of the libraries that are installed, 20 steps each: how many are the same "
        "here, also with a schedule, and which there aren't, and why",
    ),
    option("--markdown", type=Path, metavar="FILE.md", help="renew the table in this file; print nothing"),
)
def rules(call: Sequence[str] | None, peers: bool, markdown: Path | None) -> int:
    """List the rules, or renew the list in a Markdown file, or compare with other libraries."""
    if call is not None:
        from fastopt.tools.peers.constructors import answer

        try:
            print(answer(*call))
        except ValueError as error:
            raise UsageError(f"argument --from: {error}") from None
        return 0
    if peers:
        from fastopt.tools.peers import constructors

        text, right = constructors.summary(constructors.outcomes())
        print(text)
        return 0 if right else 1
    from fastopt.tools import rule_table

    if markdown is None:
        print(rule_table.summary(get_terminal_size().columns))
        return 0
    try:
        markdown.write_text(rule_table.renewed(markdown.read_text("utf-8")), "utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"argument --markdown: {markdown}: {error}") from None
    return 0
