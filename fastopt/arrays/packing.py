"""`pack`: one flat buffer a dtype, and every parameter a view into it.

A step on a packed container is a step on one array, the buffer, as long as the state lies in the same order
and all counts are equal. Otherwise the views are arrays like others.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from fastopt.arrays.containers import compute_dtype, is_masked, is_sequence
from fastopt.arrays.layout import Layout, aligned_zeros, order_of
from fastopt.checks import kind

__all__ = ["Packed", "PackedDict", "PackedList", "pack"]


class Packed:
    """What a `PackedDict` and a `PackedList` share.

    Attributes
    ----------
    buffers : dict of dtype to flat array
        The memory of the arrays, one after the other in the order of the container, without gaps.
    layout : Layout
        Where each array lies in its buffer.
    """

    buffers: dict[np.dtype[Any], np.ndarray]
    layout: Layout

    def __init__(self, layout: Layout) -> None:
        raise NotImplementedError

    def _place(self, layout: Layout) -> dict[Hashable, np.ndarray]:
        """Make buffers of zeros; give the views."""
        sizes: dict[np.dtype[Any], int] = {}
        for slot in layout.values():
            sizes[slot.dtype] = sizes.get(slot.dtype, 0) + slot.size
        self.layout = layout
        self.buffers = {dtype: aligned_zeros(size, dtype) for dtype, size in sizes.items()}
        return {key: slot.view(self.buffers[slot.dtype]) for key, slot in layout.items()}

    @property
    def buffer(self) -> np.ndarray:
        """The flat array that holds every value, where all are of one dtype; assigning copies into it.

        Raises
        ------
        ValueError
            If there are several dtypes; ``buffers`` has an array for each.
        """
        if len(self.buffers) != 1:
            raise ValueError(
                f"there are buffers of {[*map(str, self.buffers)]}, not of one dtype: use .buffers"
            )
        return next(iter(self.buffers.values()))

    @buffer.setter
    def buffer(self, values: Any) -> None:
        # Python assigns after params.buffer *= 2, too.
        write(self.buffer, "buffer", values)

    def like(self) -> Any:
        """Give a container of the same layout with zeros, for gradients."""
        return type(self)(self.layout)

    def __reduce__(self) -> Any:
        return restore, (type(self), self.layout, [*self.buffers.values()])

    def __copy__(self) -> Any:
        return restore(type(self), self.layout, [*self.buffers.values()])

    def _arrays(self) -> list[np.ndarray]:
        """Return the views, then the buffers."""
        own: Any = self
        views = own.values() if isinstance(own, dict) else own
        return [*views, *self.buffers.values()]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copy the container; layers that hold its arrays, and are copied with it, hold the copy's."""
        new = self.__copy__()
        olds, news = self._arrays(), new._arrays()
        early = {id(memo[id(old)]): array for old, array in zip(olds, news, strict=True) if id(old) in memo}
        if early:  # of layers that were copied first
            replace_copies(memo, early)
        memo.update({id(old): array for old, array in zip(olds, news, strict=True)})
        memo.setdefault(id(memo), []).extend(olds)  # alive as long as their ids are in use
        return new


def replace_copies(memo: dict[int, Any], new: Mapping[int, Any]) -> None:
    """Put others in the place of objects, given by their ids, in what ``copy.deepcopy`` has made so far."""
    for made in [*memo.values()]:
        # Attributes, items of a dict or of a list; tuples with arrays are made when those are there.
        holder = made if isinstance(made, dict | list) else getattr(made, "__dict__", {})
        items: Any = enumerate(holder) if isinstance(holder, list) else holder.items()
        for place, value in [(place, value) for place, value in items if id(value) in new]:
            holder[place] = new[id(value)]


def write(view: np.ndarray, key: Hashable, value: Any) -> None:
    """Copy a value into an array of its shape, or say why it doesn't fit."""
    if value is not view:
        view[...] = fitting(view, key, value)


def fitting(view: np.ndarray, key: Hashable, value: Any) -> np.ndarray:
    """Return a value as an array that can be copied into another one, or say why it can't."""
    if is_masked(value):
        raise TypeError(f"{key!r} can't take a masked array: pass its data, or a filled copy")
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"{key!r} takes real numbers, not {kind(value) if array.dtype == object else array.dtype}"
        )
    if array.shape != view.shape:
        raise ValueError(f"{key!r} is packed with shape {view.shape}, so it can't take shape {array.shape}")
    return array


def write_all(views: Any, values: Mapping[Any, Any]) -> None:
    """Copy values into the arrays of a container, all of them or none."""
    checked = [(views[key], fitting(views[key], key, value)) for key, value in values.items()]
    for view, array in checked:
        view[...] = array


def fixed(self: Packed, *_arguments: Any, **_named: Any) -> NoReturn:
    """Raise: a packed container has the arrays that it was made with."""
    raise TypeError("a packed container keeps the arrays that it was made with: pack another for others")


class PackedDict(Packed, dict[Any, Any]):
    """A dict whose arrays are views into flat buffers. Assigning to a key copies into its array.

    Examples
    --------
    >>> params = fastopt.pack({"W": np.ones((2, 2)), "b": np.zeros(2)})
    >>> type(params).__name__, params.buffer
    ('PackedDict', array([1., 1., 1., 1., 0., 0.]))
    >>> params["b"] = [5.0, 6.0]  # is copied into the buffer
    >>> params.buffer
    array([1., 1., 1., 1., 5., 6.])
    """

    __slots__ = ("buffers", "layout")  # read faster than from a __dict__

    def __init__(self, layout: Layout) -> None:
        dict.__init__(self, self._place(layout))

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._check_key(key)
        write(self[key], key, value)

    def _check_key(self, key: Hashable) -> None:
        """Raise KeyError if there is no such array."""
        if key not in self:
            raise KeyError(f"{key!r} is not packed here; there are {list(self)}")

    def update(self, *values: Any, **named: Any) -> None:
        """Copy the values of another dict into the arrays of the same keys, all of them or none."""
        given = dict(*values, **named)
        for key in given:
            self._check_key(key)
        write_all(self, given)

    def __ior__(self, values: Any) -> "PackedDict":  # type: ignore[misc]
        self.update(values)
        return self

    __delitem__ = pop = popitem = clear = setdefault = fixed


class PackedList(Packed, list[Any]):
    """A list whose arrays are views into flat buffers. Assigning to an index copies into its array.

    Examples
    --------
    >>> params = fastopt.pack([np.ones(2), np.zeros(1)])
    >>> params[1][:] = 7
    >>> params.buffer
    array([1., 1., 7.])
    """

    __slots__ = ("buffers", "layout")  # read faster than from a __dict__

    def __init__(self, layout: Layout) -> None:
        list.__init__(self, self._place(layout).values())

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            places = range(len(self))[index]
            values = list(value)
            if len(places) != len(values):
                raise ValueError(f"{len(places)} arrays can't take {len(values)} values")
            write_all(self, dict(zip(places, values, strict=True)))
        else:
            write(self[index], index, value)

    __delitem__ = pop = clear = append = extend = insert = remove = sort = reverse = fixed
    __iadd__ = __imul__ = fixed


def restore(cls: Any, layout: Layout, flats: Sequence[np.ndarray]) -> Any:
    """Make a container with copies of these buffers."""
    packed = cls(layout)
    for flat, values in zip(packed.buffers.values(), flats, strict=True):
        flat[...] = values
    return packed


def pack(params: Any) -> Any:
    """Put the arrays of a dict or list into one flat buffer a dtype.

    The values of the result are views into the buffer, with the shapes, dtypes and element order of the
    originals. Build the layers of a network from them, then update them in place.
    ``update(packed, packed_grads)`` with ``packed_grads = packed.like()`` is a single pass over the
    buffer, several times faster than over many small arrays. ``copy.deepcopy`` of a network copies its
    containers and the layers that hold their arrays as one; a pickle doesn't know that these share memory, so
    give the layers the arrays of the loaded container again.

    Parameters
    ----------
    params : dict or list
        Arrays of float32 or float64 (float16 becomes float32), or floats, which become arrays without
        dimensions. They are copied.

    Returns
    -------
    PackedDict or PackedList
        With ``buffer`` (the flat array), ``buffers`` (one for each dtype) and ``like()``.

    Raises
    ------
    TypeError
        If params is no dict or list, or a value can't be a parameter.

    Examples
    --------
    >>> import fastopt, numpy as np
    >>> params = fastopt.pack({"W": np.ones((2, 3)), "b": np.zeros(3)})
    >>> params["b"] = [1, 2, 3]
    >>> params.buffer
    array([1., 1., 1., 1., 1., 1., 1., 2., 3.])
    """
    cls: type[Packed]
    if isinstance(params, Mapping):
        items, cls = dict(params), PackedDict
    elif is_sequence(params):
        items, cls = dict(enumerate(params)), PackedList
    else:
        raise TypeError(f"params must be a dict or list of arrays, not {kind(params)}")
    layout = Layout()
    for key, value in items.items():
        layout.place(key, *compute_dtype(key, value), order_of(value))
    packed: Any = cls(layout)
    for key, value in items.items():
        packed[key] = value
    return packed
