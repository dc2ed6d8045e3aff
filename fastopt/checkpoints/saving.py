"""`Saving`: state dicts and checkpoints of whatever can say what its state is."""

from collections.abc import Mapping
from os import PathLike
from types import MappingProxyType
from typing import Any

from fastopt.checkpoints.state_dict import Calls, capture, copy_params, param_calls, parse, restore_calls
from fastopt.checks import kind
from fastopt.consistency import Consistent
from fastopt.engine.plan import run_calls

__all__ = ["Saving"]


def check_path(path: Any, method: str) -> None:
    """Raise TypeError if something is no path, as where arguments are swapped."""
    if not isinstance(path, str | bytes | PathLike):
        raise TypeError(f"the path must be a str, not {kind(path)}: write optimizer.{method}(path, params)")


class Saving(Consistent):
    """What an optimizer, and several as one, can do with their state."""

    # Optimizers inside, by the names that their states have in a checkpoint.
    inner: Mapping[str, Any] = MappingProxyType({})

    def capture(self) -> dict[str, Any]:
        """Return the state dict."""
        return capture(self)

    def check_state(self, state: Any, n_updates: int | None = None) -> None:
        """Raise TypeError or ValueError if something isn't a state dict that fits.

        ``n_updates`` is the number of updates by which schedules go, if it isn't that in the state.
        """
        parse(self, state, n_updates)

    def restore_calls(self, state: Any, n_updates: int | None = None) -> Calls:
        """Return the C calls that put a state dict in the place of the state."""
        return restore_calls(self, state, n_updates)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next steps depend on, but for the parameters.

        Returns
        -------
        dict
            "class"; "iter" and "skipped"; "hyperparameters", a dict; "state", a dict with, for each state
            (those of an option are named "lookahead.slow"), copies of the arrays in a dict or list like the
            parameters, or None before the first step; "counts", the number of steps of each parameter, where
            these aren't all "iter"; "shapes", those of parameters whose states are all smaller; "quantized",
            with ``state_dtype`` format, dtype, shape and order of parameters whose states are flat uint8 or
            uint16 arrays, codes followed by scales; "inner", with ``accumulate`` the sums of micro-batches,
            and the state dicts of optimizers inside.
        """
        return self.read_whole(self.capture)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned: the next steps have the same bits.

        Parameters
        ----------
        state : dict
            Of an optimizer of this class. It is copied.

        Raises
        ------
        TypeError, ValueError
            If state isn't a state dict of this class, or its parameters differ from the optimizer's. The
            optimizer is left unchanged.
        """
        with self.lock:
            run_calls(self.restore_calls(state))

    def save(self, path: Any, params: Any = None) -> None:
        """Write the state, and parameters if given, to a file.

        Parameters
        ----------
        path : str or path
            It ends in ``.npz``, or in ``.safetensors`` (needs the extra of that name). A file that is there
            is replaced when the new one is whole and on the disk; until then it stays as it was.
        params : dict or list, optional
            What is updated.

        Raises
        ------
        ValueError, TypeError
            If the path ends otherwise, or a parameter's key is neither str nor int.
        OSError
            If it can't be written.
        """
        from fastopt.checkpoints import files  # late: zipfile, json and hashlib take 8 ms

        check_path(path, "save")
        files.path_of(path)
        state, copies = self.read_whole(
            lambda: (self.capture(), None if params is None else copy_params(params))
        )
        files.save(path, state, copies)

    def load(self, path: Any, params: Any = None) -> None:
        """Resume from a file that `save` wrote: the next steps have the same bits.

        Parameters
        ----------
        path : str or path
            The file.
        params : dict or list, optional
            Arrays to copy the saved parameters into.

        Raises
        ------
        ValueError
            If the file is damaged, no checkpoint, of another class, or of other parameters than ``params``
            or those that this optimizer has stepped on. Nothing has changed.
        OSError
            If it can't be read.
        """
        from fastopt.checkpoints import files  # late, as in `save`

        def check(state: Any, saved: Any) -> None:
            with self.lock:
                self.check_state(state)
            param_calls(saved, params)

        check_path(path, "load")
        state, saved, _ = files.load(path, check)
        with self.lock:
            run_calls(param_calls(saved, params) + self.restore_calls(state))
