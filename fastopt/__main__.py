"""``python -m fastopt``: the command line, as by the script ``fastopt``."""

from fastopt.cli.program import enter

if __name__ == "__main__":
    enter("python -m fastopt")
