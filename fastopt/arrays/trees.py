"""Nested containers as flat ones: `flatten`, `unflatten`, and gradients under other names."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastopt.arrays.rows import Rows
from fastopt.checks import kind

__all__ = ["flatten", "gradients_of", "unflatten"]

Attributes = Mapping[str, str]


def named(attributes: Sequence[str] | Attributes) -> Attributes:
    """Return, for each name, the attribute that it stands for."""
    if isinstance(attributes, str):
        raise TypeError(
            f"attributes must be a list of names or a dict, not {attributes!r}: write [{attributes!r}]"
        )
    return attributes if isinstance(attributes, Mapping) else {name: name for name in attributes}


def children(tree: Any, attributes: Attributes) -> Iterable[tuple[Any, Any]] | None:
    """Return what a tree has, with its names or indices; None for a leaf."""
    # The usual types first, as the look for a `Mapping` takes longer.
    if isinstance(tree, list | tuple):
        return enumerate(tree)
    if type(tree) is dict or isinstance(tree, Mapping):
        items: Iterable[tuple[Any, Any]] = tree.items()
        return items
    found = [
        (name, getattr(tree, attribute)) for name, attribute in attributes.items() if hasattr(tree, attribute)
    ]
    is_object = not isinstance(tree, np.ndarray | np.generic | Rows | float | int)
    return found if is_object and found else None


def add_leaves(found: dict[str, Any], tree: Any, attributes: Attributes, path: str) -> None:
    """Add the leaves of a tree under their paths. What is None is left out."""
    own = None if type(tree) is np.ndarray else children(tree, attributes)
    if own is not None:
        start = f"{path}." if path else ""
        for name, child in own:
            add_leaves(found, child, attributes, f"{start}{name}")
    elif path in found:
        raise ValueError(f"two arrays have the path {path!r}: rename one of them")
    elif tree is not None:
        found[path] = tree


def flatten(tree: Any, attributes: Sequence[str] | Attributes = ()) -> dict[str, Any]:
    """Return the arrays of nested containers in one dict, under the paths to them.

    Parameters
    ----------
    tree : dict, list or tuple
        Of arrays, of further containers, or of objects such as layers.
    attributes : list of str or dict, optional
        Which attributes of objects are arrays, or further containers: names such as ``["W", "b"]``, or a dict
        from the names that they get to those of the attributes, ``{"W": "dW", "b": "db"}``. Objects need not
        have all.

    Returns
    -------
    dict of str to array
        The arrays themselves, which `update` changes in place. Keys are ``"layers.0.W"``. None is left out.

    Raises
    ------
    ValueError
        If two arrays have the same path.

    Examples
    --------
    >>> import fastopt, numpy as np
    >>> params = {"layers": [{"W": np.ones((2, 3)), "b": np.zeros(3)}], "scale": np.ones(1)}
    >>> list(fastopt.flatten(params))
    ['layers.0.W', 'layers.0.b', 'scale']
    """
    result: dict[str, Any] = {}
    add_leaves(result, tree, named(attributes), "")
    return result


def unflatten(values: Mapping[str, Any], tree: Any) -> Any:
    """Return nested containers like a tree, with the values of a flat dict in the place of its arrays.

    Parameters
    ----------
    values : dict
        For each path of the tree, a value: as from `flatten`, or ``optimizer.average(flatten(tree))``.
    tree : dict, list or tuple
        Of arrays or further containers. It isn't changed.

    Raises
    ------
    KeyError
        If there is no value for a path.

    Examples
    --------
    >>> tree = {"layers": [{"W": np.ones(2)}]}
    >>> fastopt.unflatten({"layers.0.W": np.zeros(2)}, tree)
    {'layers': [{'W': array([0., 0.])}]}
    """
    return replaced(values, tree, ())


def replaced(values: Mapping[str, Any], tree: Any, path: tuple[str, ...]) -> Any:
    """Return a part of a tree with other values."""
    if isinstance(tree, Mapping):
        return {name: replaced(values, child, (*path, str(name))) for name, child in tree.items()}
    if isinstance(tree, list | tuple):
        new = [replaced(values, child, (*path, str(i))) for i, child in enumerate(tree)]
        if isinstance(tree, list):
            return new
        return type(tree)(*new) if hasattr(tree, "_fields") else tuple(new)
    key = ".".join(path)
    if tree is None:
        return None
    if key not in values:
        raise KeyError(f"there is no value for {key!r} in {list(values)}")
    return values[key]


def gradients_of(grads: Mapping[str, Any], pattern: str) -> dict[str, Any]:
    """Return gradients under the names of their parameters.

    Parameters
    ----------
    grads : dict
        Gradients under names such as "dW1".
    pattern : str
        How these are made from the parameters' names, with ``{}`` for a name: ``"d{}"``, ``"{}_grad"``.

    Returns
    -------
    dict of str to array
        The same arrays; those with other names are left out.

    Raises
    ------
    ValueError
        If the pattern hasn't ``{}`` once, or no gradient has such a name.

    Examples
    --------
    >>> import fastopt, numpy as np
    >>> fastopt.gradients_of({"dW1": np.ones(2), "loss": 0.5}, "d{}")
    {'W1': array([1., 1.])}
    """
    if not isinstance(pattern, str) or pattern.count("{}") != 1:
        raise ValueError(
            f"pattern must have {{}} once, for the parameter's name, as 'd{{}}', not {pattern!r}"
        )
    if not isinstance(grads, Mapping):
        raise TypeError(f"grads must be a dict of gradients by name, not {kind(grads)}")
    start, _, end = pattern.partition("{}")
    n = len(start) + len(end)
    found = {
        name[len(start) : len(name) - len(end)]: grad
        for name, grad in grads.items()
        if isinstance(name, str) and len(name) > n and name.startswith(start) and name.endswith(end)
    }
    if not found:
        raise ValueError(f"no gradient has a name like {pattern!r}; there are {list(grads)}")
    return found
