"""Training in several processes, also on several machines, by MPI: each holds its share of the state.

Every rank (process) has all parameters and its own part of the batch. A step goes so: all agree that each can
take it; the gradients are reduced to their mean, of which a rank gets its share; the ordinary optimizer
updates this share of the parameters, so that it holds the state of no others; the shares are gathered. That
is stage 1 of ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054).
"""

import os
import secrets
import sys
import traceback
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from contextlib import contextmanager
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastopt import checkpoint
from fastopt.adapters.shares import Buffers, Group, Shares
from fastopt.around import sum_of_squares
from fastopt.checks import kind
from fastopt.optimizer import Optimizer
from fastopt.packing import Packed, PackedDict
from fastopt.plan import Calls, Layout, align, finite, memory, run, survey
from fastopt.rows import Rows
from fastopt.statedict import copied, copies

try:
    from mpi4py import MPI
    from mpi4py.util import pkl5
except (ImportError, RuntimeError) as error:  # of which the second is for mpi4py without an MPI
    raise ModuleNotFoundError(
        f"this needs mpi4py and an MPI ({str(error).splitlines()[0]}): "
        'python -m pip install "fastopt[mpi]", and mpich if the machine has no MPI',
        name="mpi4py",
    ) from error

__all__ = ["MPI", "DataParallel", "committed"]

# In a folder of checkpoints: the file that names those that belong together.
INDEX = "index.npz"

# What a rank can fail with before a step, so that all raise it.
ERRORS = KeyError, TypeError, FloatingPointError, MemoryError, OSError, ValueError


def views(layout: Layout, buffers: Buffers) -> dict[Hashable, np.ndarray]:
    """Give the arrays of a layout, as views of flat buffers."""
    return {key: slot.shaped(buffers[slot.dtype]) for key, slot in layout.items()}


def own_views(group: Group, shares: Buffers) -> dict[Hashable, np.ndarray]:
    """Give the arrays of a group's slots, as views of this rank's share of its chunks."""
    starts = {chunk.dtype: chunk.start for chunk in group.chunks}
    shifted = {
        key: slot._replace(offset=slot.offset - starts[slot.dtype]) for key, slot in group.slots.items()
    }
    return views(Layout(shifted), shares)


def described(layout: Layout) -> dict[str, str]:
    """Describe parameters as all ranks have to have them."""
    return {
        f"parameter {key!r}": f"{slot.dtype} of shape {slot.shape}, in order {slot.order}"
        for key, slot in layout.items()
    }


def regular(flat: np.ndarray) -> bool:
    """Whether all values of a flat array and their squares are finite."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.dot(flat, flat))) or finite(flat, flat.dtype)


def shards_of(folder: Path) -> list[str]:
    """Give the names of the files that a folder's index has."""
    names, _ = checkpoint.read(folder / INDEX, lambda header: {})
    shards: list[str] = names["shards"]
    if any(not isinstance(name, str) or Path(name).name != name for name in shards):
        raise ValueError(f"{str(folder / INDEX)!r} names {shards}, which are no files of its folder")
    return shards


def cores(comm: Any) -> int:
    """Give this process's share of the cores that it may run on."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {*range(os.cpu_count() or 1)}
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    sharing = sum(not mine.isdisjoint(theirs) for theirs in node.allgather(mine))
    node.Free()
    return max(1, min(numba.config.NUMBA_NUM_THREADS, len(mine) // sharing))


@contextmanager
def committed(comm: Any) -> Iterator[None]:
    """End all processes if something fails that can't be taken back: the others would wait forever."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        comm.Abort(1)
        raise


class DataParallel:
    """An optimizer for a network that several processes train, each on its part of the batch.

    Parameters
    ----------
    optimizer : Optimizer
        The rule, without state. This process's copy of it gets this process's share of the state.
        Hyperparameters are assigned to it, the same on all ranks. If its ``threads`` is None, it becomes
        the rank's share of the cores that it may run on.
    comm : mpi4py.MPI.Comm, optional
        The processes, by default ``MPI.COMM_WORLD``. It is duplicated.
    reduce_dtype : "float64", optional
        What the gradients are summed in, at the cost of a copy and of twice the traffic for float32; by
        default their parameters' dtype.

    Attributes
    ----------
    optimizer : Optimizer
        The rule.
    comm : mpi4py.MPI.Comm
        The duplicate.

    Raises
    ------
    ModuleNotFoundError
        When this module is imported, if mpi4py or an MPI is missing.
    TypeError, ValueError
        If optimizer is none or has state, or reduce_dtype is another.

    Notes
    -----
    All methods are collective: every rank has to call them, in the same order. What one rank can't do raises
    the same error on all, which names the rank, with nothing changed anywhere. What fails after all have
    agreed, a lost process for example, ends all of them. Start programs by ``mpiexec -n 4 python -m mpi4py
    program.py``: then an error outside of these methods ends all processes, too, instead of leaving the
    others waiting.

    Rules that go by elements are cut at multiples of 64 elements, and are given `fastopt.pack`-ed parameters
    and gradients as they are. Other containers are copied, at each step: the gradients once, the parameters
    there and back. So are all containers where the rule needs whole arrays (`LARS`, `Muon`, ...): a rank has
    whole arrays then, dealt out by size, so the shares are as equal as the arrays let them be.

    A step has the bits of the rule's own, given the same mean gradient. That one depends on the number
    of ranks and on the order in which MPI sums, which a library may choose by the size of a message; on one
    or two ranks there is only one order. `Prodigy` sums over all parameters, so its bits depend on the
    number of ranks besides.

    Examples
    --------
    >>> optimizer = DataParallel(fastopt.Adam(lr=0.001))  # doctest: +SKIP
    >>> optimizer.broadcast(params)  # doctest: +SKIP
    >>> optimizer.update(params, grads)  # of this rank's part of the batch  # doctest: +SKIP
    """

    def __init__(self, optimizer: Optimizer, comm: Any = None, *, reduce_dtype: Any = None) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one of fastopt's, such as Adam(), not {kind(optimizer)}")
        if optimizer.iter:
            raise ValueError("optimizer has taken steps already: wrap a new one, and load a checkpoint")
        if reduce_dtype is not None and np.dtype(reduce_dtype) != np.float64:
            raise ValueError(f"reduce_dtype must be None or 'float64', not {reduce_dtype!r}")
        self.optimizer = optimizer
        self.comm = (MPI.COMM_WORLD if comm is None else comm).Dup()
        self.reduce_dtype = None if reduce_dtype is None else np.dtype(reduce_dtype)
        self._whole = False
        # Known from the first parameters on:
        self._layout = Layout()
        self._digest = 0
        self._list = False
        self._shares = Shares(self._layout, self._whole, 0, 1)
        self._sums: list[dict[np.dtype[Any], np.ndarray]] = []
        self._copies: dict[str, PackedDict] = {}
        if optimizer.threads is None:
            optimizer.threads = cores(self.comm)
        optimizer._pool = partial(self.comm.Allreduce, MPI.IN_PLACE)

    def broadcast(self, params: Any) -> None:
        """Copy the parameters of rank 0 to all.

        Parameters
        ----------
        params : dict or list
            As `update` takes them, of the same names, shapes and dtypes on every rank.

        Raises
        ------
        KeyError, TypeError, ValueError
            If they can't be updated, or aren't the same; on every rank.
        """
        self._agree_on(params, params)
        with committed(self.comm):
            buffers = self._buffers(params, "params")
            for buffer in buffers.values():
                self.comm.Bcast(buffer)
            self._hand_back(params, buffers)

    def update(self, params: Any, grads: Any) -> bool:
        """Take one step with the mean of all ranks' gradients.

        Parameters
        ----------
        params, grads : dict or list
            As `Optimizer.update` takes them; always the same parameters, which share no memory.

        Returns
        -------
        bool
            True; False if the step was left out (``nonfinite="skip"``). The same on every rank.

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
            With ``nonfinite="warn"``, on the ranks whose share of the mean isn't finite.
        """
        optimizer = self.optimizer
        self._agree_on(params, grads)
        groups = self._shares.groups
        with committed(self.comm):
            buffers, slopes = self._buffers(params, "params"), self._buffers(grads, "grads")
            turn, strict = optimizer.iter, optimizer.nonfinite != "warn"
            # All reductions are under way; each is waited for when its group's turn comes.
            reductions = [self._reduce(*pair, slopes) for pair in zip(groups, self._sums, strict=True)]
            means: Iterable[Buffers] = map(self._mean, reductions, self._sums)
            refused = False
            if strict or optimizer.clip_norm is not None:
                means = list(means)
            if strict:  # that has to be known of all before anything changes
                refused = self._anywhere(not all(regular(flat) for mean in means for flat in mean.values()))
        if refused:
            return self._refuse(params, grads)
        late = None
        with committed(self.comm):
            if optimizer.clip_norm is not None:
                total = np.array([sum_of_squares([flat for mean in means for flat in mean.values()])])
                self.comm.Allreduce(MPI.IN_PLACE, total)
                optimizer.__dict__["_norm"] = sqrt(total[0])
            gathers: list[Any] = []
            for group, mean in zip(groups, means, strict=True):
                optimizer.iter = turn  # every group's step is the same
                try:
                    optimizer.update(views(group.slots, buffers), own_views(group, mean))
                except RuntimeWarning as warning:  # warnings are errors here; the step has been taken
                    late = warning
                gathers += self._gathers(group, buffers)
            MPI.Request.Waitall(gathers)
            self._hand_back(params, buffers)
        if late is not None:
            raise late
        return True

    def average(self, params: Any) -> Any:
        """Give the averaged parameters, of a schedule-free rule or of ``ema`` or ``swa``, for predictions.

        Parameters
        ----------
        params : dict or list
            What `update` has stepped on.

        Returns
        -------
        dict or list
            New arrays, on every rank.

        Raises
        ------
        ValueError
            If there is no average.
        """
        average: Any = self.optimizer.average
        if not callable(average) and self.optimizer.ema is None and self.optimizer.swa is None:
            raise ValueError("there is no average without ema=0.999, say, or swa=1000")
        self._agree_on(params, params)
        with committed(self.comm):
            buffers = {dtype: flat.copy() for dtype, flat in self._buffers(params, "params").items()}
            gathers: list[Any] = []
            for group in self._shares.groups:
                own = views(group.slots, buffers)
                averaged = average(own) if callable(average) else average or own
                for key, array in own.items():
                    array[...] = averaged[key]
                gathers += self._gathers(group, buffers)
            MPI.Request.Waitall(gathers)
        new = {
            key: array.astype(np.asarray(params[key]).dtype)
            for key, array in views(self._shares.ordered, buffers).items()
        }
        return new if isinstance(params, Mapping) else [new[key] for key in range(len(new))]

    def state_dict(self) -> dict[str, Any] | None:
        """Give the whole state to rank 0, as the rule's own `state_dict` would be; None to the others."""
        with committed(self.comm):
            messages = pkl5.Intracomm(self.comm)
            own = self.optimizer.state_dict()
            if self.comm.rank:
                messages.send(own, 0)
                return None
            parts = [own, *(messages.recv(source=rank) for rank in range(1, self.comm.size))]
            state = self._shares.joined(parts, self._layout)
        parted = any(other["iter"] for other in state.get("inner", {}).values())
        if self._list and not parted:  # as Muon has both parts in dicts
            state["state"] = {
                name: arrays and [arrays.get(index) for index in range(max(arrays) + 1)]
                for name, arrays in state["state"].items()
            }
        return state

    def save(self, path: Any, params: Any) -> None:
        """Write state and parameters, whole or not at all.

        Parameters
        ----------
        path : str or path
            If it ends in ``.npz`` or ``.safetensors``, the state is gathered on rank 0, which writes one file
            as `Optimizer.save` does; that can be loaded without MPI. A path without a suffix is a folder that
            all ranks see, in which each writes its share to a file of its own; the last complete set stays
            until the new one is.
        params : dict or list
            What is updated.

        Raises
        ------
        ValueError, TypeError, OSError
            As `Optimizer.save`; on every rank.
        """
        self._agree_on(params, params)
        folder, comm = Path(path), self.comm
        if folder.suffix:
            self._try(lambda: checkpoint.path_of(path))
            state = self.state_dict()
            self._try(lambda: None if state is None else checkpoint.save(path, state, copied(params)))
            return
        stem = f"{self.optimizer.iter}-{comm.bcast(secrets.token_hex(4))}"
        names = [f"{stem}-{rank}-of-{comm.size}.npz" for rank in range(comm.size)]
        own, first = folder / names[comm.rank], comm.rank == 0

        def write() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            self.optimizer.save(own, params if first else None)

        old: list[str] = []

        def publish() -> None:
            if first and (folder / INDEX).exists():
                old.extend(shards_of(folder))
            if first:
                checkpoint.write(folder / INDEX, {"shards": names}, {})

        def clean() -> None:
            for name in old:
                (folder / name).unlink(missing_ok=True)

        try:
            self._try(write)
            self._try(publish)
        except BaseException:
            own.unlink(missing_ok=True)
            raise
        self._try(clean)

    def load(self, path: Any, params: Any) -> None:
        """Go on from what `save` wrote on any number of ranks, or `Optimizer.save` on one.

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
        self._agree_on(params, params)
        folder, shares, saved = Path(path), self._shares, None
        calls: Calls = []

        def parts() -> Iterator[dict[str, Any]]:
            nonlocal saved
            files = [folder] if folder.suffix else [folder / name for name in shards_of(folder)]
            for file in files:
                state, there = checkpoint.load(file, lambda *_: None)
                saved = saved if there is None else there
                yield shares.in_parts(state) if folder.suffix else state

        def read() -> None:
            state = shares.joined(parts(), shares.slots)
            calls.extend(copies(saved, params) + self.optimizer._restoring(state))

        self._try(read)
        with committed(self.comm), self.optimizer._exclusive():
            run(calls)

    def _agree_on(self, params: Any, grads: Any) -> None:
        """Check that this step can be taken, and that all ranks are about to take the same."""
        layout, number = self._layout, 0
        rules = [self.optimizer, *self.optimizer._inner().values()]

        def prepare() -> None:
            nonlocal layout, number
            whole = self._needs_whole()
            if self._layout and whole != self._whole:
                raise ValueError(
                    "clip_each and clip_adaptive need whole arrays: choose before the first step"
                )
            layout = self._surveyed(params, grads)
            for key, _, grad in zip(*align(params, grads), strict=True):
                if isinstance(grad, Rows):
                    raise TypeError(f"the gradient of {key!r} is Rows, which can't be reduced: pass it whole")
            if layout is not self._layout:
                self._digest = zlib.crc32(repr(described(layout)).encode())
            turn = self.optimizer.iter + 1
            rates = [rule.schedule and rule.schedule(turn) for rule in rules]  # which may raise
            ours = [(type(rule).__name__, rule._hyperparameters()) for rule in rules], rates
            number = zlib.crc32(f"{self._digest} {self.reduce_dtype} {turn} {ours}".encode())

        def details() -> dict[str, Any]:
            values = {"reduce_dtype": str(self.reduce_dtype), "iter": self.optimizer.iter}
            for rule in rules:
                own = rule._hyperparameters().items()
                values |= {f"{type(rule).__name__}'s {name}": value for name, value in own}
            return {"the parameters": [*layout], **described(layout), **values}

        self._try(prepare, lambda: number, details)
        if layout is not self._layout:
            self._layout, self._list = layout, not isinstance(params, Mapping)
            self._whole = self._needs_whole()
            self._shares = Shares(layout, self._whole, self.comm.rank, self.comm.size)
            self._sums = [
                {
                    chunk.dtype: np.empty(chunk.counts[self.comm.rank], self.reduce_dtype or chunk.dtype)
                    for chunk in group.chunks
                }
                for group in self._shares.groups
            ]

    def _needs_whole(self) -> bool:
        """Whether arrays must not be cut; or say what can't be had on several ranks."""
        optimizer = self.optimizer
        for rule in (optimizer, *optimizer._inner().values()):
            if rule.groups is not None or rule.decay != "all":
                raise ValueError("groups and decay='matrices' can't be had with DataParallel")
            if rule.accumulate > 1:
                raise ValueError(
                    "accumulate can't be had with DataParallel: update with the mean of the micro-batches"
                )
        parted = [rule.clip_norm for rule in (optimizer, *optimizer._inner().values())]
        if len(parted) > 1 and any(norm is not None for norm in parted):
            raise ValueError("clip_norm can't be had with DataParallel if a rule has another inside")
        options = optimizer.clip_each, optimizer.clip_adaptive
        return optimizer.measure is not None or any(option is not None for option in options)

    def _surveyed(self, params: Any, grads: Any) -> Layout:
        """Give the layout of the parameters, or say why they can't be updated."""
        if self._fits(params) and self._fits(grads) and all(flat.flags.writeable for flat in params.flats):
            return self._layout
        keys, values, slopes = align(params, grads)
        assignable = isinstance(params, MutableMapping | MutableSequence)
        layout = survey(keys, values, slopes, self._layout, assignable, self.optimizer.measure is not None)
        if self._layout and {*keys} != self._layout.keys():
            odd = [*({*keys} ^ self._layout.keys())]
            raise ValueError(f"there were other parameters at first: only then or only now {odd[:5]}")
        if memory(values) is None:
            raise ValueError("parameters share memory: several ranks can't update them in order")
        return self._layout if self._layout else layout

    def _fits(self, container: Any) -> bool:
        """Whether the buffers of a container can be used as they are."""
        if self._whole or not isinstance(container, Packed):
            return False
        return container.layout is self._layout or container.layout == self._layout

    def _try(
        self,
        action: Callable[[], Any],
        number: Callable[[], int] = lambda: 0,
        details: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """Do something on each rank; raise on all if it fails on one, or if the numbers differ afterwards."""
        comm, error = self.comm, None
        try:
            action()
        except Exception as caught:
            error = caught
        result = np.array([error is not None, number(), -number()], np.int64)
        with committed(comm):
            comm.Allreduce(MPI.IN_PLACE, result, MPI.MAX)
            if not result[0] and result[1] == -result[2]:
                return
            failure = None
            if error is not None:
                known = next((kind for kind in ERRORS if isinstance(error, kind)), RuntimeError)
                failure = known, str(error.args[0] if len(error.args) == 1 else error)
            everyone = comm.allgather((failure, details()))
        failures = [(rank, failure) for rank, (failure, _) in enumerate(everyone) if failure]
        if failures:
            rank, (known, message) = failures[0]
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            raise known(f"rank {rank}{more}: {message}") from error
        first = everyone[0][1]
        for rank, (_, theirs) in enumerate(everyone):
            for name in [*first, *theirs]:
                if theirs.get(name) != first.get(name):
                    raise ValueError(
                        f"{name}: {theirs.get(name, 'missing')} on rank {rank}, "
                        f"{first.get(name, 'missing')} on rank 0"
                    )
        raise ValueError("the ranks are about to take different steps")

    def _anywhere(self, here: bool) -> bool:
        """Whether something is so on any rank."""
        flag = np.array([here], np.int64)
        self.comm.Allreduce(MPI.IN_PLACE, flag, MPI.MAX)
        return bool(flag[0])

    def _refuse(self, params: Any, grads: Any) -> bool:
        """Leave a step out, or say whose gradient is at fault."""
        if self.optimizer.nonfinite == "skip":
            self.optimizer._skipped += 1
            return False
        culprits = self.comm.allgather(self.optimizer._culprit(params, grads, self._layout))
        named = [f"rank {rank}: {culprit}" for rank, culprit in enumerate(culprits) if culprit]
        raise FloatingPointError(
            f"{(named or ['the mean of the gradients'])[0]} has NaN, infinity, or a value whose square "
            f"overflows at step {self.optimizer.iter + 1}"
        )

    def _buffers(self, container: Any, role: str) -> Buffers:
        """Give the flat buffers of a container, or of a copy in a layout that can be shared out."""
        if self._fits(container):
            return container.buffers
        if role not in self._copies:
            self._copies[role] = PackedDict(self._shares.ordered)
        with np.errstate(all="ignore"):
            for key, view in self._copies[role].items():
                view[...] = container[key]
        return self._copies[role].buffers

    def _hand_back(self, params: Any, buffers: Buffers) -> None:
        """Copy parameters that have been updated in a copy."""
        if self._fits(params):
            return
        with np.errstate(all="ignore"):
            for key, view in views(self._shares.ordered, buffers).items():
                if isinstance(params[key], np.ndarray):
                    params[key][...] = view
                else:
                    params[key] = type(params[key])(view)

    def _reduce(self, group: Group, sums: Buffers, slopes: Buffers) -> tuple[list[Any], list[np.ndarray]]:
        """Begin to sum the gradients of a group; each rank gets its share."""
        # The values are kept until the sums are there: mpi4py has no reference to what a reduction sends.
        values = [chunk.of(slopes).astype(sums[chunk.dtype].dtype, copy=False) for chunk in group.chunks]
        requests = [
            self.comm.Ireduce_scatter(sent, sums[chunk.dtype], chunk.counts, MPI.SUM)
            for chunk, sent in zip(group.chunks, values, strict=True)
        ]
        return requests, values

    def _mean(self, reduction: tuple[list[Any], list[np.ndarray]], sums: Buffers) -> Buffers:
        """Give this rank's share of the mean gradients, when it is there."""
        MPI.Request.Waitall(reduction[0])
        with np.errstate(all="ignore"):
            return {
                dtype: np.divide(own, self.comm.size, own).astype(dtype, copy=False)
                for dtype, own in sums.items()
            }

    def _gathers(self, group: Group, buffers: Buffers) -> list[Any]:
        """Begin to send each rank's share of a group to all."""
        return [
            self.comm.Iallgatherv(MPI.IN_PLACE, [chunk.of(buffers), chunk.counts]) for chunk in group.chunks
        ]
