"""What a state dict has to be, and which parameters fit to what was saved."""

from collections.abc import Callable, Mapping, MutableMapping, MutableSequence
from functools import partial
from operator import setitem
from typing import Any

import numpy as np

from fastopt.checkpoints.files import items
from fastopt.plan import Layout, align, order_of, survey

__all__ = ["MOST_STEPS", "check_state", "copied", "copies"]

MOST_STEPS = 2**62  # which int64 can count on from

# The options that states come from.
BY_OPTION = {"average": "ema or swa", "slow": "lookahead", "touched": "rows='exact'"}


def check_state(
    state: Any,
    own: str,
    shapes: Mapping[str, Callable[[tuple[int, ...]], tuple[int, ...]] | None],
    checks: Mapping[str, Callable[[str, Any], Any]],
    known: Layout,
    kind: type | None,
    by_rows: bool,
) -> tuple[dict[str, Any], Layout, type | None]:
    """Give hyperparameters, layout and container of a state dict, or say what is wrong with it."""
    wanted = ["class", "hyperparameters", "iter", "skipped", "state"]
    if not isinstance(state, Mapping) or sorted(state) != wanted:
        raise ValueError(f"it must be a dict of {', '.join(wanted)}, as state_dict gives it")
    if state["class"] != own:
        raise ValueError(f"it is the state of {state['class']!r}, not of {own}")
    for name in ("iter", "skipped"):
        if type(state[name]) is not int or not 0 <= state[name] < MOST_STEPS:
            raise ValueError(f"its {name} is {state[name]!r}, which is no number of steps")
    for name, there, wanted in (
        ("hyperparameters", state["hyperparameters"], list(checks)),
        ("states", state["state"], list(shapes)),
    ):
        if not isinstance(there, Mapping) or sorted(there) != sorted(wanted):
            by = [BY_OPTION[odd] for odd in {*there} ^ {*wanted} if odd in BY_OPTION]
            hint = f": that is by {' and '.join(by)}, so make one with the same" if by else ""
            raise ValueError(f"its {name} are {list(there)}, those of {own} are {wanted}{hint}")
    checked = {name: checks[name](name, value) for name, value in state["hyperparameters"].items()}
    kinds = {type(values) for values in state["state"].values()}
    if len(kinds) > 1 or not kinds <= {dict, list, type(None)}:
        raise ValueError("its states must all be dicts, or all lists, or all None")
    container = None if kinds <= {type(None)} else kinds.pop()
    if container is not None and known and container is not kind:
        raise ValueError(f"its states are in a {container.__name__}, this optimizer's are not")
    parts = {n: dict(items(values or {})) for n, values in state["state"].items()}
    first = next(iter(parts.values()), {})
    for name, part in parts.items():
        if part.keys() != first.keys():
            raise ValueError(f"its {name} has {list(part)}, another of its states {list(first)}")
        for key, array in part.items():
            if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float64):
                raise ValueError(f"its {name} of {key!r} is no array of float32 or float64")
    layout = Layout()
    for key in first:
        arrays = {name: part[key] for name, part in parts.items()}
        one = next(iter(arrays.values()))
        try:
            shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
        except ValueError:
            shape = one.shape
        for name, array in arrays.items():
            wanted_shape = shapes[name]
            if (array.shape, array.dtype) != (wanted_shape(shape) if wanted_shape else shape, one.dtype):
                raise ValueError(f"its {name} of {key!r} is unlike its other states")
        layout.place(key, shape, one.dtype, "C" if by_rows else order_of(one))
    if known and container is not None:
        if layout.keys() != known.keys():
            odd = [*(layout.keys() ^ known.keys())]
            raise ValueError(f"it has other parameters than this optimizer: only one has {odd[:5]}")
        for key, slot in layout.items():
            if slot[:2] != known[key][:2]:
                raise ValueError(
                    f"its state of {key!r} is {slot.dtype} of shape {slot.shape}, this optimizer's is "
                    f"{known[key].dtype} of shape {known[key].shape}"
                )
    return checked, layout, container


def copied(params: Any) -> Any:
    """Give copies of parameters that can be stepped on."""
    keys, values, _ = align(params, params)
    for key, value in zip(keys, values, strict=True):
        survey([key], [value], [value], Layout(), True)
    copies = [np.array(value, order="C", subok=False) for value in values]
    return dict(zip(keys, copies, strict=True))


def copies(saved: Any, params: Any) -> list[Callable[[], Any]]:
    """Give what copies the saved into these parameters, or say why it doesn't fit."""
    if params is None:
        return []
    if saved is None:
        raise ValueError("it has no parameters: save(path, params) writes them")
    keys, values, _ = align(params, params)
    if {*keys} != {*saved}:
        odd = [*({*keys} ^ {*saved})]
        raise ValueError(f"it has other parameters than these: only one has {odd[:5]}")
    result: list[Callable[[], Any]] = []
    for key, value in zip(keys, values, strict=True):
        survey([key], [value], [value], Layout(), isinstance(params, MutableMapping | MutableSequence))
        new, old = saved[key], np.asarray(value)
        if (new.shape, new.dtype) != (old.shape, old.dtype.newbyteorder("=")):
            raise ValueError(
                f"its parameter {key!r} is {new.dtype} of shape {new.shape}, "
                f"this one {old.dtype} of shape {old.shape}"
            )
        if isinstance(value, np.ndarray):
            result.append(partial(setitem, value, ..., new))
        else:
            result.append(partial(setitem, params, key, type(value)(new)))
    return result
