"""`DataParallel`: what a rank does in a step.

Every rank (process) has all parameters and its own part of the batch. A step goes so: all agree that each can
take it; the gradients are reduced to their mean, of which a rank gets its share; the ordinary optimizer
updates this share of the parameters, so that it holds the state of no others; the shares are gathered. That
is stage 1 of ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054).
"""

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, MutableSequence
from contextlib import contextmanager
from copy import copy
from functools import partial
from math import sqrt
from operator import setitem
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fastopt.adapters.mpi import sharded_checkpoint
from fastopt.adapters.mpi.agreement import MPI, Agreement, committed
from fastopt.adapters.mpi.copies import Copies
from fastopt.adapters.mpi.exchange import Exchange
from fastopt.adapters.mpi.shares import Buffers, Part, Shapes, Shares, Views
from fastopt.around import sum_of_squares
from fastopt.arrays.rows import Rows
from fastopt.arrays.snapshots import assign, restored
from fastopt.checkpoints import files
from fastopt.checkpoints.state_dict import copied, copies
from fastopt.checks import kind
from fastopt.groups import FROZEN, Groups
from fastopt.optimizer import Optimizer
from fastopt.plan import Calls, Layout, Plan, align, finite, memory, run, survey

__all__ = ["DataParallel"]

# What is the rule's, besides its hyperparameters.
FORWARDED = frozenset(("iter", "skipped", "grad_norm", "schedule", "describe"))

# For errors.
WHOLE = "clip_each and clip_adaptive need whole arrays:"
BAD = "{} has NaN, infinity, or a value whose square overflows at step {}"


def described(layout: Layout) -> dict[str, str]:
    """Describe parameters as all ranks have to have them."""
    return {
        f"parameter {key!r}": f"{slot.dtype} of shape {slot.shape}, in order {slot.order}"
        for key, slot in layout.items()
    }


def checksums(params: Any) -> dict[str, str]:
    """Give a checksum of each parameter's values."""
    keys, values, _ = align(params, params)
    return {
        f"parameter {key!r} before the first step (broadcast makes it so)": "of checksum "
        f"{zlib.crc32(np.asarray(value).tobytes()):08x}"
        for key, value in zip(keys, values, strict=True)
    }


def cores(comm: Any) -> int:
    """Give this process's share of the cores that it may run on."""
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {*range(os.cpu_count() or 1)}
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    sharing = sum(not mine.isdisjoint(theirs) for theirs in node.allgather(mine))
    node.Free()
    return max(1, min(numba.config.NUMBA_NUM_THREADS, len(mine) // sharing))


class DataParallel:
    """An optimizer for a network that several processes train, each on its part of the batch.

    Parameters
    ----------
    optimizer : Optimizer
        The rule, without state. It gets this process's share of the state, and mustn't be stepped otherwise.
        If its ``threads`` is None, it becomes the rank's share of the cores that it may run on.
    comm : mpi4py.MPI.Comm, optional
        The processes, by default ``MPI.COMM_WORLD``. It is duplicated.
    reduce_dtype : "float64", optional
        What the gradients are summed in; by default their parameters' dtype. They travel as they are.

    Attributes
    ----------
    optimizer : Optimizer
        The rule, whose state is that of parts of the parameters: ``'W1'[0:1856]`` are so many elements of
        ``params["W1"]``. Its hyperparameters, ``iter``, ``skipped``, ``grad_norm``, ``schedule`` and
        ``describe`` are the DataParallel's, too; assign them on all ranks alike.
    comm : mpi4py.MPI.Comm
        The duplicate.

    Raises
    ------
    ModuleNotFoundError
        When this module is imported, if mpi4py or an MPI is missing.
    TypeError, ValueError
        If optimizer is none, has state or an option that can't be had, or reduce_dtype is another.

    Notes
    -----
    All methods are collective: every rank has to call them, in the same order. What one rank can't do raises
    the same error on all, which names the rank, with nothing changed anywhere. What fails after all have
    agreed, a lost process for example, ends all of them. Start programs by ``mpiexec -n 4 python -m mpi4py
    program.py``: then an error outside of these methods ends all processes, too, instead of leaving the
    others waiting.

    The buffers are cut at multiples of 64 elements, and `fastopt.pack`-ed parameters and gradients are taken
    as they are. Other containers are copied, at each step: the gradients once, the parameters there and back.
    `SM3`, `Adafactor`, `Muon`, ``clip_each`` and ``clip_adaptive`` need whole arrays: their containers are
    copied, too, and a rank has whole arrays, dealt out by size, so the shares are as equal as the arrays let
    them be.

    A mean gradient is ((g₀ + g₁) + ...) / N, in the order of the ranks, with any MPI; a step has the bits of
    the rule's own, given this mean. Only sums over what several ranks have, in `LARS`, `LAMB`, `NovoGrad`,
    `Prodigy` and for ``clip_norm``, depend on the number of ranks besides.

    With ``accumulate`` each rank sums up its own micro-batches, and the last one's step is the only one that
    sends anything but a few bytes. A checkpoint in between has the mean of these sums.

    Examples
    --------
    >>> optimizer = DataParallel(fastopt.Adam(lr=0.001))  # doctest: +SKIP
    >>> optimizer.broadcast(params)  # doctest: +SKIP
    >>> optimizer.update(params, grads)  # of this rank's part of the batch  # doctest: +SKIP
    """

    def __init__(self, optimizer: Optimizer, comm: Any = None, *, reduce_dtype: Any = None) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be one of fastopt's, such as Adam(), not {kind(optimizer)}")
        if any(rule.iter or rule._layout for rule in (optimizer, *optimizer._inner().values())):
            raise ValueError("optimizer has taken steps already: wrap a new one, and load a checkpoint")
        if reduce_dtype is not None and np.dtype(reduce_dtype) != np.float64:
            raise ValueError(f"reduce_dtype must be None or 'float64', not {reduce_dtype!r}")
        self.__dict__["optimizer"] = optimizer
        self._check_options()
        self.comm = (MPI.COMM_WORLD if comm is None else comm).Dup()
        self.reduce_dtype = None if reduce_dtype is None else np.dtype(reduce_dtype)
        self._agreement = Agreement(self.comm)
        self._stepped = False
        # What groups and decay were when they were last looked at, and what came out.
        self._asked: tuple[Any, ...] = (None, "all")
        self._groups: Groups | None = None
        self._handed: Groups | None = None  # what the pieces' groups are from
        # Known from the first parameters on:
        self._layout = Layout()
        self._digest = 0
        self._list = False
        self._shares = Shares(self._layout, False, False, self.comm.rank, self.comm.size)
        self._exchange = Exchange(self.comm, self._shares, self.reduce_dtype)
        self._copies = Copies(self._shares)
        threads = cores(self.comm)
        for rule in self._rules():
            rule.threads = threads if rule.threads is None else rule.threads

    def __getattr__(self, name: str) -> Any:
        rule = self.__dict__.get("optimizer")
        if name in FORWARDED or name in getattr(type(rule), "__dataclass_fields__", ()):
            return getattr(rule, name)
        raise AttributeError(f"DataParallel has no {name!r}; the rule, with this rank's state, is .optimizer")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("comm", "reduce_dtype") or name.startswith("_"):
            super().__setattr__(name, value)
        else:  # the rule says what it doesn't have
            setattr(self.optimizer, name, value)

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
            buffers = self._copies.of(params, "params")
            for buffer in buffers.values():
                self.comm.Bcast(buffer)
            self._copies.hand_back(params)

    def update(self, params: Any, grads: Any) -> bool:
        """Take one step with the mean of all ranks' gradients.

        Parameters
        ----------
        params, grads : dict or list
            As `Optimizer.update` takes them; always the same parameters, which share no memory.

        Returns
        -------
        bool
            True; False if the step was left out (``nonfinite="skip"``), or the gradients are those of a
            micro-batch that others follow (``accumulate``). The same on every rank.

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
        optimizer, accumulator = self.optimizer, self.optimizer._accumulator
        if self._agree_on(params, grads, stepping=True):
            optimizer._skipped += 1
            return False
        if self._waiting():
            with committed(self.comm):
                late = self._late(accumulator, accumulator.take, params, grads)
            if late is not None:
                raise late
            return False
        strict = optimizer.nonfinite != "warn"
        # What has to be known of all elements before any changes; and all state is made at once, at first.
        early = strict or optimizer.clip_norm is not None or not (self._shares.apart and self._stepped)
        regular = True
        with committed(self.comm):
            if accumulator is not None:
                grads = accumulator._mean(params, grads)
            buffers, slopes = self._copies.of(params, "own"), self._copies.of(grads, "grads")
            pieces = self._exchange.reduce(slopes)
            for piece in pieces if early else ():
                if strict:
                    regular &= all(finite(flat, flat.dtype) for flat in self._exchange.own(piece))
        if strict and self._agreement.anywhere(not regular):
            return self._refuse(params, grads)
        with committed(self.comm):
            self._prepare(buffers)
            step = partial(type(optimizer).update, optimizer)  # without what is around whole steps
            turn, late, gathers = optimizer.iter, None, []
            for piece in [self._shares.all] if early else pieces:
                optimizer._turn[()] = turn + 1  # the step is the same for all pieces
                optimizer.__dict__["_groups"] = piece.groups
                own, means = piece.params.of(buffers), piece.grads.of(self._exchange.means)
                late = self._late(optimizer, step, own, means) or late
                gathers += self._exchange.gather(piece, buffers)
            MPI.Request.Waitall(gathers)
            self._copies.hand_back(params)
            self._stepped = True
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

        def check() -> None:
            if len(self._rules()) > 1:
                raise ValueError("average can't be had with DataParallel if a rule has another inside")
            if not callable(average) and self.optimizer.ema is None and self.optimizer.swa is None:
                raise ValueError("there is no average without ema=0.999, say, or swa=1000")

        self._agreement.on(check)
        self._agree_on(params, params)
        with committed(self.comm):
            buffers = {dtype: flat.copy() for dtype, flat in self._copies.of(params, "params").items()}
        own = Views(self._shares.all.slots).of(buffers)

        def replace() -> None:
            averaged = average(own) if callable(average) else own if average is None else average
            for key, array in own.items():
                if key not in averaged:
                    raise ValueError(f"there is no average of {key!r}")
                array[...] = averaged[key]

        self._agreement.on(replace)
        with committed(self.comm):
            MPI.Request.Waitall(self._exchange.gather(self._shares.all, buffers))
        arrays = Views(self._shares.ordered).of(buffers)
        return {key: arrays[key] for key in params} if isinstance(params, Mapping) else files.in_list(arrays)

    @contextmanager
    def averaged(self, params: Any) -> Iterator[None]:
        """Put the average in the place of the parameters for as long as the block lasts.

        As `Optimizer.averaged`; on every rank.

        Parameters
        ----------
        params : dict or list
            What `update` has stepped on.

        Raises
        ------
        ValueError
            If there is no average.
        """
        average = self.average(params)
        with restored(params):
            assign(params, average)
            yield

    def state_dict(self) -> dict[str, Any] | None:
        """Give the whole state to rank 0, as the rule's own `state_dict` would be; None to the others."""
        state: dict[str, Any] | None = None
        with committed(self.comm):
            parts = self._agreement.collect(self.optimizer.state_dict())

        def join() -> None:
            nonlocal state
            if parts:
                state = self._shares.joined(parts, self._layout, self._shapes())

        self._agreement.on(join)
        if state is not None and self._list and len(self._rules()) == 1:  # with another both are in dicts
            state["state"] = {
                name: arrays if arrays is None else files.in_list(arrays)
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
        folder = Path(path)

        def check() -> None:
            if folder.suffix not in ("", ".npz", ".safetensors"):
                raise ValueError(
                    f"{str(path)!r} must end in .npz or .safetensors, or have no suffix and be a folder"
                )

        self._agreement.on(check, lambda: zlib.crc32(str(folder).encode()), lambda: {"path": str(folder)})
        if folder.suffix:
            state = self.state_dict()
            self._agreement.on(partial(files.save, path, state, copied(params)) if state else bool)
            return
        own: dict[str, Any] = {}
        self._agreement.on(lambda: own.update(self._shares.named(self.optimizer.state_dict())))
        sharded_checkpoint.save(folder, own, params, self._agreement)

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
            for file in [folder] if folder.suffix else sharded_checkpoint.files_of(folder):
                state, there = files.load(file, lambda *_: None)
                saved = saved if there is None else there
                yield shares.in_parts(state, self._shapes()) if folder.suffix else shares.read(state)

        def read() -> None:
            state = shares.joined(parts(), shares.all.slots, self._shapes())
            there = state["hyperparameters"]
            if self._needs_whole(there.get("clip_each"), there.get("clip_adaptive")) != shares.whole:
                raise ValueError(f"{WHOLE} make one with those that it was saved with, {there}")
            sums = state.get("inner", {}).get("accumulated", {"state": {}})["state"]
            for name, arrays in sums.items():  # of this container's kind
                there = dict(files.items(arrays or {}))
                sums[name] = None if arrays is None else files.in_list(there) if self._list else there
            calls.extend(copies(saved, params) + self.optimizer._restoring(state))

        self._agreement.on(read)
        with committed(self.comm), self.optimizer._exclusive():
            run(calls)
            self._stepped = True

    def _rules(self) -> list[Any]:
        """Give the rule, and the one inside that takes a part of the parameters, if there is one."""
        inner = self.optimizer._inner().values()
        return [self.optimizer, *(rule for rule in inner if rule is not self.optimizer._accumulator)]

    def _shapes(self) -> Shapes:
        """Give for each state what gives its shape from a parameter's."""
        return {name: getattr(type(self.optimizer), name).shape for name in self.optimizer.states}

    def _waiting(self) -> bool:
        """Whether the next gradients are those of a micro-batch that others follow."""
        accumulator = self.optimizer._accumulator
        return accumulator is not None and accumulator.count + 1 < self.optimizer.accumulate

    def _agree_on(self, params: Any, grads: Any, stepping: bool = False) -> bool:
        """Check that this step can be taken, and that all ranks are about to take the same.

        Gives whether a micro-batch has to be left out.
        """
        layout, number, optimizer = self._layout, 0, self.optimizer
        rules = self._rules()

        def prepare() -> bool:
            nonlocal layout, number
            if stepping:
                self._check_options()
            if self._stepped and self._needs_whole() != self._shares.whole:
                raise ValueError(f"{WHOLE} choose before the first step")
            if sum(len(rule._layout) for rule in rules) > len(self._shares.all.slots):
                raise ValueError("optimizer has been stepped by itself: only DataParallel.update may")
            layout = self._surveyed(params, grads)
            if layout is not self._layout:
                self._digest = zlib.crc32(repr(described(layout)).encode())
            if self._asked[0] is not optimizer.groups or self._asked[1] != optimizer.decay:
                asked, groups = (optimizer.groups, optimizer.decay), None
                if asked != (None, "all"):
                    keys, values, _ = align(params, params)
                    groups = Groups(asked[0] or {}, asked[1] == "matrices", keys, values, ())
                self._asked, self._groups = asked, groups
            turn = optimizer.iter + 1
            count = 0 if optimizer._accumulator is None else optimizer._accumulator.count
            rates = [rule.schedule and rule._lr_of(rule.schedule, turn) for rule in rules if stepping]
            ours = [(type(rule).__name__, rule._hyperparameters()) for rule in rules], rates, self._told()
            first = checksums(params) if stepping and not self._stepped else {}
            number = zlib.crc32(f"{self._digest} {self.reduce_dtype} {turn} {count} {ours} {first}".encode())
            culprit = ""
            if stepping and self._waiting() and optimizer.nonfinite != "warn":
                culprit = optimizer._culprit(params, grads, layout)
            if culprit and optimizer.nonfinite == "raise":
                raise FloatingPointError(BAD.format(culprit, turn))
            return bool(culprit)

        def details() -> dict[str, Any]:
            kinds = " and ".join(type(rule).__name__ for rule in rules)
            values = {"the rule": kinds, "reduce_dtype": str(self.reduce_dtype), "iter": optimizer.iter}
            for rule in rules:
                own = rule._hyperparameters().items()
                values |= {f"{type(rule).__name__}'s {name}": value for name, value in own}
            known = described(layout) | (checksums(params) if stepping and not self._stepped else {})
            return {**values, "groups": self._told(), "the parameters": [*layout], **known}

        refused = self._agreement.on(prepare, lambda: number, details)
        whole, at_once = self._needs_whole(), optimizer.measure is not None
        if layout is not self._layout or whole != self._shares.whole:
            self._layout, self._list, self._handed = layout, not isinstance(params, Mapping), None
            self._shares = Shares(layout, whole, at_once, self.comm.rank, self.comm.size)
            self._exchange = Exchange(self.comm, self._shares, self.reduce_dtype)
            self._copies = Copies(self._shares)
        handing = self._handed is not self._groups
        self._handed = self._groups
        for piece in (*self._shares.pieces, self._shares.all) if handing else ():
            piece.groups = groups = copy(self._groups)
            if groups is not None:
                of = {part: part.key if isinstance(part, Part) else part for part in piece.slots}
                groups.keys, groups.views = [*of], []
                groups.which = {part: groups.which[key] for part, key in of.items()}
        return refused

    def _told(self) -> str:
        """Tell what differs between the parameters."""
        return "none" if self._groups is None else f"{self._groups.sets} for {self._groups.which}"

    def _check_options(self) -> None:
        """Say what can't be had on several ranks."""
        rules = self._rules()
        for rule in rules:
            if rule.recorded is not None:
                raise ValueError("record can't be had with DataParallel: a rank sees its share only")
            if rule.rows == "exact":
                raise ValueError("rows='exact' can't be had with DataParallel, which takes no Rows")
            inner = rule.groups, rule.decay, rule.clip_norm, rule.nonfinite
            if len(rules) > 1 and inner != (None, "all", None, self.optimizer.nonfinite):
                raise ValueError(
                    "groups, decay='matrices', clip_norm and different nonfinite can't be had with "
                    "DataParallel if a rule has another inside"
                )

    def _needs_whole(self, *clips: Any) -> bool:
        """Whether arrays must not be cut, with these clip_each and clip_adaptive or the rule's own."""
        rule = self.optimizer
        clips = clips or (rule.clip_each, rule.clip_adaptive)
        return (rule.measure is not None and not rule.sums) or clips != (None, None)

    def _surveyed(self, params: Any, grads: Any) -> Layout:
        """Give the layout of the parameters, or say why they can't be updated."""
        if self._layout and self._list is isinstance(params, Mapping):
            raise TypeError(f"params must stay a {'list' if self._list else 'dict'}, as at first")
        if (
            self._copies.fit(params)
            and self._copies.fit(grads)
            and all(flat.flags.writeable for flat in params.flats)
        ):
            return self._layout
        keys, values, slopes = align(params, grads)
        for key, slope in zip(keys, slopes, strict=True):
            if isinstance(slope, Rows):
                raise TypeError(f"the gradient of {key!r} is Rows, which can't be reduced: pass it whole")
        self.optimizer.admit(keys, values)
        assignable = isinstance(params, MutableMapping | MutableSequence)
        layout = survey(keys, values, slopes, self._layout, assignable, self.optimizer.measure is not None)
        if self._layout and {*keys} != self._layout.keys():
            new = [key for key in keys if key not in self._layout]
            gone = [key for key in self._layout if key not in keys]
            raise ValueError(
                f"parameters must stay those of the first call; new: {new[:5]}, gone: {gone[:5]}"
            )
        if memory(values) is None:
            raise ValueError("parameters share memory: several ranks can't update them in order")
        return self._layout if self._layout else layout

    def _refuse(self, params: Any, grads: Any) -> bool:
        """Leave a step out, or say whose gradient is at fault."""
        if self.optimizer.nonfinite == "skip":
            self.optimizer._skipped += 1
            return False
        culprits = self.comm.allgather(self.optimizer._culprit(params, grads, self._layout))
        named = [f"rank {rank}: {culprit}" for rank, culprit in enumerate(culprits) if culprit]
        culprit = (named or ["the mean of the gradients"])[0]
        raise FloatingPointError(BAD.format(culprit, self.optimizer.iter + 1))

    def _prepare(self, buffers: Buffers) -> None:
        """Tell the rule what it can't see in its share: the norm of all gradients, and others' measures."""
        optimizer, everything, norm = self.optimizer, self._shares.all, None
        if optimizer.clip_norm is not None:
            means, groups = everything.grads.of(self._exchange.means), everything.groups
            for part, param in everything.params.of(buffers).items() if optimizer._copies else ():
                optimizer._clip(means[part], param)
            counted = [g for part, g in means.items() if groups is None or groups.which[part] != FROZEN]
            total = np.array([sum_of_squares(counted)])
            self.comm.Allreduce(MPI.IN_PLACE, total)
            norm = sqrt(total[0])
        optimizer.__dict__["_norm"] = norm
        for rule in self._rules():
            rule._pool = partial(self._pooled, type(rule))

    def _pooled(self, rule: type[Optimizer], plan: Plan) -> Calls:
        """Give the C calls that add what other ranks have measured of the same arrays, or of all."""
        reduce = partial(self.comm.Allreduce, MPI.IN_PLACE)
        if rule.totals:
            return [partial(reduce, plan.running[-1])]
        if self._shares.whole or not rule.sums:
            return []
        places = {key: place for place, key in enumerate(self._layout)}
        own = np.array([places[part.key] for part in plan.keys if isinstance(part, Part)], np.intp)
        pooled = np.zeros((len(places), rule.sums))
        return [
            partial(pooled.fill, 0),
            partial(setitem, pooled, own, plan.sums),
            partial(reduce, pooled),
            partial(pooled.take, own, 0, plan.sums, "clip"),
        ]

    @staticmethod
    def _late(rule: Optimizer, step: Callable[..., Any], *arguments: Any) -> RuntimeWarning | None:
        """Take a step; give the warning that comes as an error when it has been taken."""
        before, late = rule.iter, None
        try:
            step(*arguments)
        except RuntimeWarning as warning:
            late = warning
        if rule.iter == before:
            raise RuntimeError("the step was left out on this rank alone") from late
        return late
