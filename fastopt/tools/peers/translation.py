"""`translate`: a constructor of another library as fastopt's."""

import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from fastopt.tools.peers.author_rules import PACKAGES
from fastopt.tools.peers.calls import Refusal, Translation, bound, parse, signature_of
from fastopt.words import near

__all__ = ["LIBRARIES", "Library", "Setting", "constructors", "read", "rules_of", "translate"]


class Library(NamedTuple):
    """A library whose constructors are translated.

    Attributes
    ----------
    title : str
        Its name as it is written.
    packages : tuple of str
        The packages that running it takes, itself the first.
    prefixes : tuple of str
        What may stand before the name of a constructor, the longest first.
    modules : tuple of str
        Those beside this one that translate the constructors.
    takes_params : bool
        Whether constructors get the parameters first.
    """

    title: str
    packages: tuple[str, ...]
    prefixes: tuple[str, ...]
    modules: tuple[str, ...]
    takes_params: bool = False


LIBRARIES = {
    "torch": Library("PyTorch", ("torch",), ("torch.optim", "optim"), ("torch_rules",), takes_params=True),
    "optax": Library("optax", ("optax", "jax"), ("optax",), ("optax_rules", "optax_contrib")),
    "keras": Library(
        "Keras", ("keras", "jax"), ("tf.keras.optimizers", "keras.optimizers", "optimizers"), ("keras_rules",)
    ),
    "authors": Library(
        "authors' packages",
        ("torch",),
        (*dict.fromkeys(PACKAGES.values()),),
        ("author_rules",),
        takes_params=True,
    ),
    "mlx": Library("MLX", ("mlx",), ("mlx.optimizers", "optimizers", "optim"), ("mlx_rules",)),
}


def rules_of(library: str) -> Any:
    """Return the module that translates a library's constructors, the first if there are several."""
    return import_module(f"fastopt.tools.peers.{LIBRARIES[library].modules[0]}")


@cache
def constructors(library: str) -> dict[str, Callable[..., Translation]]:
    """Return the functions that translate a library's constructors, by these constructors' names."""
    found: dict[str, Callable[..., Translation]] = {}
    for name in LIBRARIES[library].modules:
        module = import_module(f"fastopt.tools.peers.{name}")
        for function in filter(inspect.isfunction, vars(module).values()):
            is_own = function.__module__ == module.__name__ and function.__name__ != "same"
            if is_own and function.__annotations__["return"] is Translation:
                found[function.__name__.replace("contrib_", "contrib.")] = function
    return found


class Setting(NamedTuple):
    """A constructor's name, the arguments that are given, and all, defaults included."""

    name: str
    given: dict[str, Any]
    arguments: dict[str, Any]

    @property
    def lr(self) -> float | None:
        """The learning rate."""
        return self.arguments["lr"] if "lr" in self.arguments else self.arguments["learning_rate"]

    def given_with(self, lr: float) -> dict[str, Any]:
        """Return the arguments that are given, with another learning rate."""
        return {**self.given, "lr" if "lr" in self.arguments else "learning_rate": lr}


def read(library: str, text: str) -> Setting:
    """Read a call of a library's constructor.

    Raises
    ------
    Refusal
        If it is none.
    """
    known, rules = LIBRARIES[library], rules_of(library)
    call = parse(text, known.prefixes, known.takes_params)
    there, missing = constructors(library), getattr(rules, "MISSING", {})
    if call.name in missing:
        raise Refusal(f"fastopt has no {call.name}: {missing[call.name]}")
    if call.name not in there:
        hint = near(call.name, there) or f"there are {', '.join(there)}"
        raise Refusal(f"{known.title} has no {call.name!r} that is known here; {hint}")
    signature = signature_of(there[call.name], getattr(rules, "common", None))
    return Setting(call.name, *bound(call, signature))


def translate(library: str, text: str) -> Translation:
    """Return what fastopt has in the place of a call.

    Parameters
    ----------
    library : str
        A key of `LIBRARIES`.
    text : str
        The call, such as ``"SGD(lr=0.1, momentum=0.9)"``. It is read, not evaluated.

    Raises
    ------
    Refusal
        If it is no call of a constructor that is known, or fastopt can't do the same; the message says why.
    """
    setting = read(library, text)
    result = constructors(library)[setting.name](**setting.arguments)
    for name, remark in rules_of(library).WITHOUT_EFFECT.items():
        if setting.arguments.get(name) not in (None, False):
            result = result.remark(f"{name} is {remark}")
    return result
