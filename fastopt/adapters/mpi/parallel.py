"""`DataParallel`: an optimizer for a network that several processes train.

In a step all ranks agree that each can take it; the gradients are reduced to their mean, of which a rank gets
its shard; the ordinary optimizer updates this shard of the parameters, so it holds no other state; the shards
are gathered. That is stage 1 of ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054).
"""

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastopt.adapters.mpi import sharded_checkpoint
from fastopt.adapters.mpi.agreement import WHOLE, Agreement
from fastopt.adapters.mpi.communicators import shared
from fastopt.adapters.mpi.consensus import MPI, Consensus, abort_on_error, rank_threads
from fastopt.adapters.mpi.distribution import Distribution
from fastopt.adapters.mpi.global_step import GlobalStep
from fastopt.adapters.mpi.sharded_state import Shapes, join_states, slice_state, with_names, with_slices
from fastopt.adapters.mpi.sharding import BufferViews
from fastopt.arrays.containers import in_list, items
from fastopt.checkpoints import files
from fastopt.checkpoints.state_dict import (
    copy_params,
    param_calls,
    restore_calls,
)
from fastopt.checkpoints.upgrades import upgraded
from fastopt.checks import kind
from fastopt.engine.plan import Arrays, run_calls
from fastopt.engine.segment import Calls
from fastopt.optimizer import Optimizer
from fastopt.stepping import Flushing

__all__ = ["DataParallel"]

# Attributes that are the optimizer's, besides its hyperparameters.
FORWARDED = frozenset(("iter", "skipped", "grad_norm", "schedule", "schedules", "describe"))


class Closed(Consensus):
    """What stands for the ranks after `DataParallel.close`."""

    def run_on_all(self, *_: Any, **__: Any) -> bool:
        """Raise ValueError."""
        raise ValueError("this DataParallel is closed: make another one of a new optimizer, and load")


class DataParallel(Flushing):
    """An optimizer for a network that several processes train, each on its part of the batch.

    Parameters
    ----------
    optimizer : Optimizer
        The update rule, without state. It gets this process's shard of the state, and must not be stepped
        otherwise. If its ``threads`` is None, it becomes the rank's share of the cores that it may run on.
    comm : mpi4py.MPI.Comm, optional
        The processes, by default ``MPI.COMM_WORLD``. Its messages go by a duplicate, which all optimizers of
        this communicator share; those that step in several threads at once need a communicator each.
    reduce_dtype : "float64", optional
        The dtype in which gradients are summed; by default their parameters'. They travel as they are.

    Attributes
    ----------
    optimizer : Optimizer
        The update rule. Its state is that of slices of the parameters: ``'W1'[0:1856]`` is the first 1,856
        elements of ``params["W1"]``. Its hyperparameters, ``iter``, ``skipped``, ``grad_norm``, ``schedule``,
        ``schedules`` and ``describe`` are the DataParallel's, too; assign them on all ranks alike.
    comm : mpi4py.MPI.Comm
        The duplicate.
    reduce_dtype : dtype or None
        As above.

    Raises
    ------
    ModuleNotFoundError
        When this module is imported, if mpi4py or an MPI is missing.
    TypeError, ValueError
        If optimizer isn't an `Optimizer` (a `Partition` isn't), has state or an option that can't be had, or
        reduce_dtype is another.

    Notes
    -----
    All methods are collective: every rank has to call them, in the same order. If one makes another call,
    or comes to the end of its program, all raise an error that says which. What one rank can't do raises
    the same error on all, which names the rank, with nothing changed anywhere. What fails after all have
    agreed, a lost process for example, ends all of them. Start programs by ``mpiexec -n 4 python -m mpi4py
    program.py``: then an error outside of these methods ends all processes, too, instead of leaving the
    others waiting.

    The buffers are cut at multiples of 64 elements, and `fastopt.pack`-ed parameters and gradients are taken
    as they are. Other containers are copied, at each step: the gradients once, the parameters there and back.
    `SM3`, `Adafactor`, `Muon`, ``clip_norm_each``, ``clip_rms`` and ``clip_adaptive`` need whole arrays:
    their containers are copied, too, and a rank has whole arrays, distributed by size, so the shards are as
    equal as the arrays let them be.

    A mean gradient is ((g₀ + g₁) + ...) / N, in the order of the ranks, with any MPI; given this mean, a step
    is bitwise identical to the optimizer's own. Only sums over what several ranks have, in `LARS`, `LAMB`,
    `NovoGrad`, `StableAdamW`, `MARS`, in rules that find their learning rate, and for ``clip_norm``, depend
    on the number of ranks besides.

    With ``accumulate`` each rank sums its own micro-batches, and the last one's step is the only one that
    sends more than a few bytes. A checkpoint in between has the mean of these sums.

    Examples
    --------
    >>> optimizer = DataParallel(fastopt.Adam(lr=0.001))  # doctest: +SKIP
    >>> optimizer.broadcast(params)  # doctest: +SKIP
    >>> optimizer.update(params, grads)  # of this rank's part of the batch  # doctest: +SKIP
    """

    def __init__(self, optimizer: Optimizer, comm: Any = None, *, reduce_dtype: Any = None) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one update rule such as Adam(), not {kind(optimizer)}")
        if reduce_dtype is not None and np.dtype(reduce_dtype) != np.float64:
            raise ValueError(f"reduce_dtype must be None or 'float64', not {reduce_dtype!r}")
        self.__dict__["optimizer"] = optimizer
        self._shared = shared(MPI.COMM_WORLD if comm is None else comm)
        self.comm = self._shared.comm
        self.reduce_dtype = None if reduce_dtype is None else np.dtype(reduce_dtype)
        self._agreement = Agreement(optimizer, self.comm, self.reduce_dtype)
        self._agreement.check_new()
        self._agreement.check_options()
        self._step = GlobalStep(self._agreement)
        self._consensus = self._agreement.consensus
        threads = rank_threads(self.comm)
        optimizer.threads = threads if optimizer.threads is None else optimizer.threads

    def __getattr__(self, name: str) -> Any:
        optimizer = self.__dict__.get("optimizer")
        if name in FORWARDED or name in getattr(type(optimizer), "__dataclass_fields__", ()):
            return getattr(optimizer, name)
        raise AttributeError(f"DataParallel has no {name!r}; the rule, with this rank's state, is .optimizer")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("comm", "reduce_dtype") or name.startswith("_"):
            super().__setattr__(name, value)
        else:  # the optimizer raises for names that it doesn't have
            setattr(self.optimizer, name, value)

    def __repr__(self) -> str:
        return f"DataParallel({self.optimizer.constructor_call()})"

    @property
    def lock(self) -> Any:
        """The optimizer's lock."""
        return self.optimizer.lock

    @property
    def distribution(self) -> Distribution:
        """How the ranks share the parameters."""
        return self._agreement.distribution

    def broadcast(self, params: Any) -> None:
        """Copy the parameters of rank 0 to all ranks.

        Parameters
        ----------
        params : dict or list
            As `update` takes them, of the same names, shapes and dtypes on every rank.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they can't be updated, or aren't the same; on every rank.
        """
        self._agreement.on_arrays("broadcast", params, params)
        with abort_on_error(self.comm):
            for buffer in self.distribution.buffers.of(params, "params").values():
                self.comm.Bcast(buffer)
            self.distribution.buffers.copy_back(params)

    def update(self, params: Any, grads: Any) -> bool:
        """Take one step with the mean of all ranks' gradients.

        Parameters
        ----------
        params, grads : dict or list
            As `Optimizer.update` takes them; always the same parameters, which share no memory.

        Returns
        -------
        bool
            True; False if the step was left out (``nonfinite="skip"``, ``skip_norm``), or the gradients are
            those of a micro-batch that others follow (``accumulate``). The same on every rank.

        Raises
        ------
        KeyError, TypeError, ValueError
            As `Optimizer.update`, and if parameters, hyperparameters or numbers of steps differ between the
            ranks; on every rank.
        FloatingPointError
            With ``nonfinite="raise"``, on every rank, if the mean of the gradients isn't finite.

        Warns
        -----
        RuntimeWarning
            With ``nonfinite="warn"``, on the ranks whose shard of the mean isn't finite.
        """
        with self.optimizer.lock:
            return self._step.take(params, grads)

    def take_rest(self, params: Any) -> bool:
        """Take a step with the micro-batches that are in. Returns whether there were any."""
        return self._step.take(params, params, is_flush=True)

    def average_in_container(self, params: Any) -> Any:
        """Return the average of each parameter in a new dict or list."""
        self._agreement.on_arrays("average", params, params)
        distribution, optimizer = self.distribution, self.optimizer
        with abort_on_error(self.comm):
            flats = distribution.buffers.of(params, "params")
            buffers = {dtype: flat.copy() for dtype, flat in flats.items()}
        bucket = distribution.sharding.combined
        views = BufferViews(bucket.slots).of(buffers)
        grouping = distribution.group_slices(self._agreement.grouping)

        def replace() -> None:
            values = [*views.values()]
            new = optimizer.averages_of(Arrays(bucket.keys, values, values, views), grouping)
            for view, average in zip(values, new, strict=True):
                view[...] = average

        self._consensus.run_on_all(replace)
        with abort_on_error(self.comm):
            MPI.Request.Waitall(distribution.exchange.gather(bucket, buffers))
        arrays = BufferViews(distribution.sharding.ordered).of(buffers)
        return {key: arrays[key] for key in params} if isinstance(params, Mapping) else in_list(arrays)

    def state_dict(self) -> dict[str, Any] | None:
        """Return the whole state on rank 0, None on the others.

        Returns
        -------
        dict or None
            As `Optimizer.state_dict` of one process.
        """
        own: dict[str, Any] = {}
        self._consensus.agree_on_call(
            "state_dict", lambda: own.update(self.optimizer.state_dict()), iter=self.optimizer.iter
        )
        return self._joined(own)

    def _joined(self, own: dict[str, Any]) -> dict[str, Any] | None:
        """Return on rank 0 the whole state of the ranks' own ones."""
        state: dict[str, Any] | None = None
        distribution = self.distribution
        with abort_on_error(self.comm):
            states = self._consensus.gather(own)

        def join() -> None:
            nonlocal state
            if states:
                state = join_states(states, distribution.sharding, distribution.layout, self._shapes())

        self._consensus.run_on_all(join)
        if state is not None and distribution.container is list:
            state["state"] = {
                name: arrays if arrays is None else in_list(arrays) for name, arrays in state["state"].items()
            }
        return state

    def save(self, path: Any, params: Any) -> None:
        """Write state and parameters, whole or not at all.

        Parameters
        ----------
        path : str or path
            If it ends in ``.npz`` or ``.safetensors``, the state is gathered on rank 0, which writes one file
            as `Optimizer.save` does; that can be loaded without MPI. A path without a suffix is a folder that
            all ranks see, in which each writes its shard to a file of its own; the last complete set stays
            until the new one is.
        params : dict or list
            What is updated.

        Raises
        ------
        ValueError, TypeError, OSError
            As `Optimizer.save`; on every rank.
        """
        self._agreement.on_arrays("save", params, params)
        own: dict[str, Any] = {}

        def capture() -> None:
            if Path(path).suffix not in ("", ".npz", ".safetensors"):
                raise ValueError(
                    f"{str(path)!r} must end in .npz or .safetensors, or have no suffix and be a folder"
                )
            own.update(self.optimizer.state_dict())

        self._consensus.agree_on_call("save", capture, path=str(path))
        folder, is_whole = Path(path), self.distribution.sharding.is_whole
        if folder.suffix:
            state = self._joined(own)
            self._consensus.run_on_all(
                lambda: None if state is None else files.save(path, state, copy_params(params))
            )
            return
        sharded_checkpoint.save(folder, own if is_whole else with_names(own), params, self._consensus)

    def load(self, path: Any, params: Any) -> None:
        """Resume from what `save` wrote on any number of ranks, or `Optimizer.save` on one.

        Every rank reads the file, or all files of the folder, one after the other.

        Parameters
        ----------
        path : str or path
            The file or folder, which all ranks see.
        params : dict or list
            Arrays to copy the saved parameters into.

        Raises
        ------
        ValueError, OSError
            As `Optimizer.load`; on every rank.
        """
        self._agreement.on_arrays("load", params, params)
        sharding, shapes, saved = self.distribution.sharding, self._shapes(), None
        calls: Calls = []
        checksums: list[str] = []

        def read_states() -> Iterator[dict[str, Any]]:
            nonlocal saved
            folder = Path(path)
            for file in [folder] if folder.suffix else sharded_checkpoint.shard_paths(folder):
                state, own, checksum = files.load(file, lambda *_: None)
                checksums.append(checksum)
                saved = saved if own is None else own
                state = upgraded(state, self.optimizer)
                if folder.suffix:
                    yield slice_state(state, sharding, shapes)
                else:
                    yield state if sharding.is_whole else with_slices(state)

        def read() -> None:
            state = join_states(read_states(), sharding, sharding.combined.slots, shapes)
            known = state["hyperparameters"]
            if self._agreement.needs_whole(known) != sharding.is_whole:
                raise ValueError(f"{WHOLE} make one with those that it was saved with, {known}")
            for inner in state.get("inner", {}).values():  # in a container of the kind of params
                for name, arrays in inner["state"].items():
                    own = dict(items(arrays or {}))
                    in_container = in_list(own) if self.distribution.container is list else own
                    inner["state"][name] = None if arrays is None else in_container
            calls.extend(param_calls(saved, params) + restore_calls(self.optimizer, state))

        with self.optimizer.lock:
            self._consensus.run_on_all(
                read,
                lambda: zlib.crc32(f"{checksums}".encode()),
                lambda: {"the file that is read": f"one of checksum {' '.join(checksums)}"},
            )
            with abort_on_error(self.comm):
                run_calls(calls)
                self._agreement.has_stepped = True

    def close(self) -> None:
        """End the use of the communicator, whose duplicate is freed with its last user.

        Needed only where a program makes many communicators. The state stays in `optimizer`; other methods
        raise ValueError from then on. ``with DataParallel(...) as optimizer:`` closes at its end, unless by
        an error.
        """
        if isinstance(self._consensus, Closed):
            return
        self._consensus.agree_on_call("close")
        self._shared.release()
        self._consensus = self._agreement.consensus = Closed(self.comm)

    def __enter__(self) -> "DataParallel":
        return self

    def __exit__(self, kind: Any, *error: object) -> None:
        if kind is None:  # else the other ranks may be anywhere
            self.close()

    def _shapes(self) -> Shapes:
        """Return the functions that return the shapes of states."""
        return {spec.name: spec.shape for spec in self.optimizer.engine.memory.specs}
