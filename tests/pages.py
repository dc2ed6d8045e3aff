"""The guide's pages: their code blocks, and a program that runs those of one page.

``python tests/pages.py PAGE.md`` runs the blocks of a page from top to bottom in one namespace, as a reader
would: in the folder in which it is called. It prints, as JSON, what was wrong, and what wasn't run.

- A block ``python`` is run. What it prints must be the block ``text`` that follows, and without one, nothing.
- If it begins with ``>>>`` it is run as a doctest.
- If its first line is a comment with a file's name, such as ``# qhm.py``, it is written to that file.
- ``python needs=dezero``, which no reader of the page sees, is run where this module can be imported.
"""

import doctest
import io
import json
import re
import sys
import traceback
import warnings
from contextlib import redirect_stdout
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

GUIDE = Path(__file__).parents[1] / "fastopt" / "guide"
PAGES = sorted(path.name for path in GUIDE.glob("*.md"))
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py)\n")
FLAGS = doctest.ELLIPSIS | doctest.DONT_ACCEPT_TRUE_FOR_1


class Block(NamedTuple):
    """A fenced block of a page.

    ``line`` is where its text begins. ``follows`` says whether it comes right after another block.
    """

    language: str
    needs: tuple[str, ...]
    text: str
    line: int
    follows: bool

    @property
    def file(self):
        """The name of the file that the block is; None if it is none."""
        found = FILE.match(self.text)
        return found and found[1]


def read(page):
    return (GUIDE / page).read_text("utf-8")


def blocks_of(text):
    """Return the fenced blocks of a Markdown text."""
    blocks, end = [], 0
    for match in FENCE.finditer(text):
        language, *words = match[1].split() or [""]
        needs = [word.removeprefix("needs=") for word in words]
        if any(name == word for name, word in zip(needs, words, strict=True)):
            raise ValueError(f"{match[0].splitlines()[0]!r} must be a language and needs=MODULE")
        line = text.count("\n", 0, match.start(2)) + 1
        follows = end > 0 and not text[end : match.start()].strip()
        blocks.append(Block(language, tuple(needs), match[2], line, follows))
        end = match.end()
    return blocks


def run_doctest(block, name, namespace):
    """Run a block of prompts and answers. Returns what was wrong."""
    test = doctest.DocTestParser().get_doctest(block.text, namespace, name, name, block.line - 1)
    output = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    test.globs = namespace  # the next block has its names
    runner.run(test, out=output.write, clear_globs=False)
    return output.getvalue()


def run_code(block, expected, name, namespace):
    """Run a block of code. Returns what was wrong."""
    output = io.StringIO()
    try:
        with redirect_stdout(output):
            exec(compile("\n" * (block.line - 1) + block.text, name, "exec"), namespace)
    except Exception:
        return traceback.format_exc()
    if output.getvalue() != expected:
        return f"{name}, line {block.line}: printed\n{output.getvalue()}instead of\n{expected}"
    return ""


def run_page(text, name="page.md"):
    """Run the blocks of a page here. Returns what was wrong, and the modules that blocks lack."""
    blocks = blocks_of(text)
    namespace = {"__name__": "__main__"}
    wrong, missing = [], []
    for block, following in zip_longest(blocks, blocks[1:]):
        if block.language != "python":
            continue
        if absent := [module for module in block.needs if find_spec(module) is None]:
            missing += absent
        elif block.file:
            Path(block.file).write_text(block.text, "utf-8")
        else:
            has_output = following is not None and following.follows and following.language == "text"
            expected = following.text if has_output else ""
            with warnings.catch_warnings():
                if block.needs:  # other libraries warn of what they like
                    warnings.simplefilter("ignore")
                if block.text.startswith(">>> "):
                    wrong.append(run_doctest(block, name, namespace))
                else:
                    wrong.append(run_code(block, expected, name, namespace))
    return [*filter(None, wrong)], missing


if __name__ == "__main__":
    sys.path[0] = ""  # files that a page writes are imported from the current folder
    print(json.dumps(run_page(read(sys.argv[1]), sys.argv[1])))
