"""The README's table: ``python -m benchmarks.table``.

Both implementations take turns within one process, warm, in blocks of some 20 ms; the table has the
medians over the blocks, and the ratio is the median of the ratios of neighbouring blocks.
"""

import tempfile
from statistics import median
from time import perf_counter

# Modules, not names: asv would find a benchmark here that is imported by name.
from benchmarks import start, step
from fastopt.demo.report import table

BLOCKS = 25
BLOCK_SECONDS = 0.02


def seconds_a_step(run: step.Step, times: int) -> float:
    """Give the mean over one block."""
    begin = perf_counter()
    for _ in range(times):
        run.optimizer.update(run.params, run.grads)
    return (perf_counter() - begin) / times


def compare(benchmark: type[step.Step], rule: str, *case: object) -> tuple[float, float, float]:
    """Give the seconds of a step by NumPy and by fastopt, and how many times faster that is."""
    runs = [benchmark(), benchmark()]
    for run, name in zip(runs, ("numpy", "fastopt"), strict=True):
        run.setup(rule, name, *case)
    times = [max(1, int(BLOCK_SECONDS / seconds_a_step(run, 3))) for run in runs]
    blocks = [[seconds_a_step(run, n) for run, n in zip(runs, times, strict=True)] for _ in range(BLOCKS)]
    slow, fast = (median(column) for column in zip(*blocks, strict=True))
    return slow, fast, median(a / b for a, b in blocks)


def main() -> None:
    """Print the tables."""
    cases = {
        "ten arrays, float64": (step.BookNetwork, "float64"),
        "ten arrays, float32": (step.BookNetwork, "float32"),
        "1,000,000, float64": (step.OneArray, "float64", 1_000_000),
        "1,000,000, float32": (step.OneArray, "float32", 1_000_000),
    }
    saved = {}
    rows = []
    for rule in step.RULES:
        row = [rule]
        for name, (benchmark, *case) in cases.items():
            slow, fast, ratio = compare(benchmark, rule, *case)
            saved[rule, name] = slow - fast
            row.append(f"{slow * 1e6:,.0f} → {fast * 1e6:,.0f} µs, {ratio:.1f}×")
        rows.append(row)
    print(table(["rule", *cases], rows))

    numpy, fastopt = (start.Import().track_import(module) for module in ("numpy", "fastopt"))
    rows = []
    for rule in step.RULES:
        code = start.FIRST_STEP.format(rule=rule)
        with tempfile.TemporaryDirectory() as folder:
            cold, *warm = (start.fresh_interpreter(code, folder) for _ in range(6))
        steps = [
            f"{(fastopt - numpy + first) / saved[rule, 'ten arrays, float64']:,.0f}"
            for first in (cold, median(warm))
        ]
        rows.append([rule, f"{cold:.2f} s", f"{median(warm):.2f} s", *steps])
    print(
        f"\nimport numpy {numpy:.2f} s, import fastopt {fastopt:.2f} s; first step, and steps to pay back:\n"
    )
    print(
        table(
            [
                "rule",
                "empty\ncache",
                "filled\ncache",
                "steps to pay\nback, empty",
                "steps to pay\nback, filled",
            ],
            rows,
        )
    )


if __name__ == "__main__":
    main()
