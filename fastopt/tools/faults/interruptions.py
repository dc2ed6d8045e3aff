"""What interrupts and damaged files make of everybody's Adam: ``verify --against faults``."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import numpy as np

from fastopt.tools.faults.subjects import Subject

__all__ = ["NOTES", "ROWS", "Events", "SimulatedInterrupt", "interrupt", "interruptions"]

# At most so many moments of a step are tried, evenly spread: those of a library with long ways in Python take
# minutes otherwise.
MAX_MOMENTS = 100

NOTES = """\
A step has as many moments as there are calls and returns in it: there Python would see Ctrl-C, or run the
handler of a signal. "3 of 50 wrong": 50 moments were tried, and after 3 of them parameters and state were
neither those before the step nor those after it; with a handler that takes a step of its own, neither those
of the one order of both steps nor those of the other. "raises": a step was not taken, with an exception.
(PyTorch's tensors hold the gradients: the interrupted step goes on with those of the handler.) A damaged file
is wrong if it was loaded, and the next step was another one than with the whole file. "–": the library has no
files, or its caller puts the new values in the places of the old ones."""

Values = list[list[float]]


class SimulatedInterrupt(KeyboardInterrupt):
    """An interrupt of this program's own, which real ones are told from: they end it."""


class Events:
    """Does something at one of the moments at which Python looks for signals: at calls, and after C code.

    (After jumps it looks, too. A trace of lines or opcodes has many more moments, at which it never does.)

    Parameters
    ----------
    at : int
        The moment, from 1.
    action : callable
        What is done then.

    Attributes
    ----------
    count : int
        Number of moments so far.
    """

    def __init__(self, at: int, action: Callable[[], Any]) -> None:
        self.at, self.action, self.count = at, action, 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        """Count a moment, and act if it is the one: a function for `sys.setprofile`."""
        if event in ("call", "c_return"):
            self.count += 1
            if self.count == self.at:
                self.action()

    def __enter__(self) -> "Events":
        sys.setprofile(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        sys.setprofile(None)


def interrupt() -> None:
    """Do what Ctrl-C does."""
    raise SimulatedInterrupt


class Training:
    """Steps of one of the optimizers, each of which has gradients of its own."""

    def __init__(self, subject: Subject) -> None:
        self.optimizer = subject.make()
        self.params = {"a": np.ones((2, 3)), "b": np.ones(3)}
        self.step(1)

    def step(self, number: int) -> None:
        """Take a step with the gradients of this number."""
        self.optimizer.update(
            self.params, {"a": np.full((2, 3), 1.0 / number), "b": np.full(3, -float(number))}
        )

    def end(self) -> Values:
        """Return the parameters after another step, in which the state shows."""
        self.step(9)
        return [np.ravel(param).tolist() for param in self.params.values()]


def after(subject: Subject, *steps: int) -> Values:
    """Return what `Training.end` does after some steps."""
    training = Training(subject)
    for number in steps:
        training.step(number)
    return training.end()


def moments(subject: Subject) -> list[int]:
    """Return the moments of a step that are tried."""
    training, events = Training(subject), Events(0, interrupt)
    with events:
        training.step(2)
    return [*range(1, events.count + 1, -(-events.count // MAX_MOMENTS))]


def wrong_moments(
    subject: Subject,
    act: Callable[[Training, int], None],
    right: Sequence[Values],
    one: Sequence[Values] = (),
) -> str:
    """Return at how many moments something leaves what it must not; ``one`` is right if a step raised."""
    tried = moments(subject)
    n_wrong = n_raised = 0
    for at in tried:
        training, allowed = Training(subject), [*right]
        try:
            act(training, at)
        except Exception:
            n_raised += 1
            allowed += one
        n_wrong += training.end() not in allowed
    raised = f", {n_raised} raises" if n_raised else ""
    return f"{n_wrong} of {len(tried)} wrong{raised}"


def ctrl_c(subject: Subject) -> str:
    """Press Ctrl-C at each moment of a step."""
    if not subject.in_place:
        return "–"

    def act(training: Training, at: int) -> None:
        try:
            with Events(at, interrupt):
                training.step(2)
        except SimulatedInterrupt:
            pass

    return wrong_moments(subject, act, [after(subject), after(subject, 2)])


def handlers_step(subject: Subject) -> str:
    """Let a signal's handler take a step at each moment of a step."""
    if not subject.in_place:
        return "–"

    def act(training: Training, at: int) -> None:
        with Events(at, lambda: training.step(3)):
            training.step(2)

    one, both = ([after(subject, *steps) for steps in some] for some in (((2,), (3,)), ((2, 3), (3, 2))))
    return wrong_moments(subject, act, both, one)


def damaged_files(subject: Subject, damage: Callable[[bytes, int], bytes]) -> str:
    """Load files that are damaged, at places that are evenly spread."""
    if not hasattr(subject.make(), "save"):
        return "–"
    n_wrong, right = 0, after(subject)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.npz"
        Training(subject).optimizer.save(path)
        content = path.read_bytes()
        for i in range(MAX_MOMENTS):
            path.write_bytes(damage(content, i * len(content) // MAX_MOMENTS))
            training = Training(subject)
            try:
                training.optimizer.load(path)
            except Exception:  # as it should
                continue
            try:
                n_wrong += training.end() != right
            except Exception:  # now that it is too late
                n_wrong += 1
    return f"{n_wrong} of {MAX_MOMENTS} wrong"


def flip(content: bytes, at: int) -> bytes:
    """Return a file with one bit of a byte changed."""
    return content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


ROWS: dict[str, Callable[[Subject], str]] = {
    "Ctrl-C within a step": ctrl_c,
    "a signal handler's step within a step": handlers_step,
    "a bit of a checkpoint flipped": partial(damaged_files, damage=flip),
    "a checkpoint cut off": partial(damaged_files, damage=lambda content, at: content[:at]),
}


def interruptions(found: Sequence[Subject]) -> tuple[list[list[str]], bool]:
    """Return the rows of the table, and whether fastopt did as it should."""
    before, sys.unraisablehook = (
        sys.unraisablehook,
        lambda unraisable: None,
    )  # an interrupt may hit a generator
    try:
        rows = [[name, *(row(subject) for subject in found)] for name, row in ROWS.items()]
    finally:
        sys.unraisablehook = before
    return rows, all(own[1].startswith("0 of ") and "raises" not in own[1] for own in rows)
