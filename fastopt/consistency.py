"""`Consistent`: what is read or changed as a whole, though a signal's handler may take a step meanwhile.

An optimizer is a monitor. One reentrant lock an optimizer covers steps, assignments, saving, copies and
forks; uncontended it takes 50 ns. A step that a schedule or a signal's handler interrupts with an assignment
goes on with what it read. If plans depend on the setting, the optimizer's token is another one, and the
step's plan isn't kept. A handler runs in the thread that holds the lock, so the lock lets it in. So what
isn't a single chain of calls looks whether a step came between, and begins anew: `Consistent`,
`Step.check_current`, `Step.guards`. A lock of the whole process (`fastopt.engine.threads.compiling`) is held
while code is compiled or loaded.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastopt.engine.engine import CHANGED, Engine
from fastopt.engine.plan import run_calls
from fastopt.engine.segment import Calls

__all__ = ["MAX_ATTEMPTS", "Consistent"]

T = TypeVar("T")

# How often something begins anew at most, as a handler may step again and again.
MAX_ATTEMPTS = 100


class Consistent:
    """The base of what has engines and a lock.

    Attributes
    ----------
    lock : RLock
        Keeps other threads out, but not a handler in the same thread.
    """

    lock: Any

    def engines(self) -> Sequence[Engine]:
        """Return the engines that have a part of the state."""
        return ()

    def read_whole(self, look: Callable[[], T]) -> T:
        """Return what a function sees, with no step meanwhile."""
        with self.lock:
            for _ in range(MAX_ATTEMPTS):
                before = self._moment()
                result = look()
                if self._moment() == before:
                    return result
            raise RuntimeError(CHANGED)

    def change_whole(self, calls_of: Callable[[], Calls]) -> None:
        """Make the C calls that a function returns, with no step after it has looked at the state."""
        with self.lock:
            for _ in range(MAX_ATTEMPTS):
                guards = [call for engine in self.engines() for call in engine.unchanged_calls()]
                if run_calls([*guards, *calls_of()]):
                    return
            raise RuntimeError(CHANGED)

    def _moment(self) -> object:
        """Return what is another one after each step and each micro-batch."""
        return [(engine.memory, engine.memory.steps.item()) for engine in self.engines()]
