"""``fastopt trajectories``: the book's picture."""

from collections.abc import Sequence
from pathlib import Path

from fastopt.cli.arguments import out_option, rules_option
from fastopt.cli.command import UsageError, command, option
from fastopt.demo.surfaces import SURFACES

__all__ = ["trajectories"]


@command(
    "draw the path of each rule over the contours of a function",
    "Prints direction changes, detour and distance to the minimum.",
)
@rules_option()
@out_option("trajectories.png")
@option("--function", choices=[*SURFACES], default="valley", help="the function; valley is the book's")
def trajectories(rules: Sequence[str], out: Path, function: str) -> None:
    """Draw the paths."""
    from fastopt.demo import trajectories as job
    from fastopt.tools.report import paragraph

    surface = SURFACES[function]
    paths = job.follow(surface, rules)
    if not paths:
        raise UsageError(f"argument --rules: {', '.join(rules)} can't take x and y, which are numbers")
    print(surface.formula)
    print(f"{surface.steps} steps from {surface.start}, minimum at {surface.minimum}\n")
    print(f"{job.summary(paths, surface)}\n\npicture: {job.picture(paths, surface, out)}")
    left_out = [rule for rule in rules if rule not in paths]
    if left_out:
        print(paragraph(f"left out, as they can't take x and y, which are numbers: {', '.join(left_out)}"))
