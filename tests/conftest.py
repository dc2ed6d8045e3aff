"""Settings of all tests: where compiled code is kept, and the option --skipped.

All tests, and the processes that they start, share one folder of compiled code. With --skipped, after the
missing libraries are installed, only the tests run that were skipped before.

How the tests are run:

- In as many processes as there are cores, four at most (pytest-xdist); ``-n0`` runs them in one, for ``-s``
  and debuggers. Don't edit the sources meanwhile: each edit has everything compiled anew.
- A property that holds for all rules alike is tested on the six of the book, or on SGD and Adam: each rule
  and dtype takes a third of a second to compile. What takes hundreds of cases runs in plain NumPy, too
  (`uncompiled`).
- A test that needs an empty cache of compiled code names a folder of its own.
- ``-m long``: interrupts and handlers at every line, damaged caches, whole commands, some seconds each. Run
  it before a change of the engine, the cache or the command line.
- ``-m soak -n0 -s``: a million steps each on plain, mixed, strided and packed arrays.
- ``-m fuzz -n0 -s``: random histories, for FASTOPT_FUZZ_SECONDS from FASTOPT_FUZZ_SEED. ``.ci/run`` has them
  for five minutes with Python's checks of memory (``PYTHONMALLOC=debug``, ``-X dev``) and with
  ``FASTOPT_CHECKED=1``: compiled code then checks each address and index, and ends the process for a wrong
  one (`fastopt.engine.native.guarding`). Tests under the same mark break a table on purpose.
- ``FASTOPT_BOOKS=FOLDER python -m pytest -m books -n0 -rP``: every script of the three volumes that has an
  optimizer, shortened and with random data, under ``fastopt run`` and without, compared after each step
  (eight minutes). FOLDER has clones of ``oreilly-japan/deep-learning-from-scratch``, ``-2`` and ``-3``.
  Nothing of them may be copied into the project.

Mutations of what runs without the compiler take two to seven seconds each, hours in all. Run them in a copy
of the clone, as each mutant is written there:

    python -m pip install cosmic-ray
    cosmic-ray init pyproject.toml mutants.sqlite
    cr-filter-operators mutants.sqlite pyproject.toml
    cosmic-ray exec pyproject.toml mutants.sqlite
    cr-report mutants.sqlite --show-diff --surviving-only
"""

import os
from pathlib import Path

import pytest

# Steps are compiled code from the first, unless a test asks for something else.
os.environ.setdefault("FASTOPT_COMPILE", "now")
os.environ.setdefault("FASTOPT_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "compiled"))

CACHE_KEY = "fastopt/skipped"


def pytest_addoption(parser):
    parser.addoption(
        "--skipped",
        action="store_true",
        help="run only what the last run without this option skipped; what is skipped again fails",
    )


def pytest_configure(config):
    # The workers of pytest-xdist report to the process that controls them: only that one records.
    controls = not hasattr(config, "workerinput")
    if config.getoption("skipped"):
        if controls and config.args_source is pytest.Config.ArgsSource.ARGS:
            raise pytest.UsageError("--skipped takes no paths; select with -k")
        config.pluginmanager.register(SkippedOnly(config))
    elif controls:
        config.pluginmanager.register(SkipRecorder(config))


class SkipRecorder:
    """The names of the tests and modules that were skipped, which go into pytest's cache."""

    def __init__(self, config):
        self.cache = getattr(config, "cache", None)  # None with -p no:cacheprovider
        self.skipped = set()

    def pytest_runtest_logreport(self, report):
        if is_skip(report):
            self.skipped.add(report.nodeid)

    def pytest_collectreport(self, report):
        if is_skip(report):
            self.skipped.add(report.nodeid)

    def pytest_sessionfinish(self):
        if self.cache is not None:
            self.cache.set(CACHE_KEY, sorted(self.skipped))


class SkippedOnly:
    """The selection of the recorded tests, in which a skip is a failure."""

    def __init__(self, config):
        self.skipped = config.cache.get(CACHE_KEY, None)
        if self.skipped is None:
            raise pytest.UsageError("--skipped requires a run without it; run python -m pytest first")
        self.failed_modules = set()

    @pytest.hookimpl(tryfirst=True)  # before -k and -m deselect any
    def pytest_collection_modifyitems(self, config, items):
        selected, deselected, found = [], [], set(self.failed_modules)
        for item in items:
            names = {item.nodeid, item.nodeid.partition("::")[0]}.intersection(self.skipped)
            (selected if names else deselected).append(item)
            found |= names
        if missing := sorted(set(self.skipped) - found):
            raise pytest.UsageError(
                f"--skipped finds no test named {', '.join(missing)}; run python -m pytest again"
            )
        items[:] = selected
        config.hook.pytest_deselected(items=deselected)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self):
        report = yield
        fail_if_skipped(report)
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        report = yield
        fail_if_skipped(report)
        if report.failed:
            self.failed_modules.add(collector.nodeid)
        return report

    def pytest_sessionfinish(self, session):
        if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not self.skipped:
            session.exitstatus = pytest.ExitCode.OK


def is_skip(report):
    """Whether a report is that of a skipped test or module; an expected failure isn't."""
    return report.skipped and not hasattr(report, "wasxfail")


def fail_if_skipped(report):
    """Turn the report of a skip into that of a failure."""
    if is_skip(report):
        _, _, reason = report.longrepr
        report.outcome, report.longrepr = "failed", f"skipped again: {reason}"
