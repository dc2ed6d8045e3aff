"""A call of another library's constructor as text, and what fastopt has in its place."""

import ast
import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from fastopt import optimizers
from fastopt.optimizer import Optimizer
from fastopt.partition import Partition
from fastopt.words import near

__all__ = ["Call", "Refusal", "Translation", "bound", "found", "parse", "refuse_unless", "signature_of"]


class Refusal(ValueError):
    """A setting of another library that fastopt hasn't; the message says why, and what to write instead."""


def refuse_unless(is_met: bool, reason: str) -> None:
    """Raise Refusal with a reason if a condition isn't met."""
    if not is_met:
        raise Refusal(reason)


class Call(NamedTuple):
    """A constructor with its arguments, which are numbers, strings, tuples or None.

    ``name`` is dotted, as ``contrib.muon``, without the library's own name.
    """

    name: str
    positional: tuple[Any, ...]
    named: dict[str, Any]


def dotted(node: ast.expr) -> str:
    """Return a dotted name, or "" if an expression is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def number_in(values: Any) -> Any:
    """Return the number in a tensor of one element."""
    while isinstance(values, list | tuple) and len(values) == 1:
        values = values[0]
    return values


def literal(name: str, node: ast.expr) -> Any:
    """Return the value of a literal, also within a tensor of one element; raise Refusal if it is none."""
    if isinstance(node, ast.Call) and dotted(node.func) in ("torch.tensor", "tensor", "mx.array"):
        return number_in(literal(name, node.args[0]))
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(literal(name, value) for value in node.elts)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise Refusal(
            f"{name} must be a literal such as 0.1, got {ast.unparse(node)}; write its value (a schedule is "
            "assigned here, as lr=fastopt.schedules.Cosine(0.1, 1000))"
        ) from None


def is_literal(node: ast.expr) -> bool:
    """Whether an expression is a literal that no list of parameters can be."""
    return isinstance(node, ast.Constant | ast.UnaryOp)


def parse(text: str, prefixes: Iterable[str], takes_params: bool) -> Call:
    """Read a call such as ``torch.optim.SGD(model.parameters(), lr=0.1)``, of which nothing is evaluated.

    Parameters
    ----------
    text : str
        The call, or an assignment of it.
    prefixes : iterable of str
        Names of the library that may stand before that of the constructor, the longest first.
    takes_params : bool
        Whether the first argument are the parameters, which are left out here.

    Raises
    ------
    Refusal
        If it is no call of a name with literals.
    """
    try:
        (statement,) = ast.parse(text.strip()).body
    except (SyntaxError, ValueError):
        statement = ast.Pass()
    node = getattr(statement, "value", None)
    name = dotted(node.func) if isinstance(node, ast.Call) else ""
    if not name or not isinstance(node, ast.Call):
        raise Refusal(f"must be one call such as 'SGD(lr=0.1)', got {text!r}")
    prefix = next((prefix for prefix in prefixes if name.startswith(f"{prefix}.")), None)
    name = name if prefix is None else name[len(prefix) + 1 :]
    named = {known.arg: known.value for known in node.keywords if known.arg is not None}
    refuse_unless(len(named) == len(node.keywords), f"{name}: write the arguments instead of **")
    given = node.args
    if takes_params:
        params = named.pop("params", given[0] if given else None)
        given = given[1:]
        is_grouped = isinstance(params, ast.List) and any(isinstance(part, ast.Dict) for part in params.elts)
        refuse_unless(not is_grouped, "lists of dicts are groups={'b*': {'lr': 0.01}} here, by name")
        refuse_unless(
            params is None or not is_literal(params),
            f"the first argument of {name} are the parameters, got {params and ast.unparse(params)}; "
            "write lr=...",
        )
    return Call(
        name,
        tuple(literal(f"argument {i + 1} of {name}", value) for i, value in enumerate(given)),
        {key: literal(key, value) for key, value in named.items()},
    )


def signature_of(function: Callable[..., Any], shared: Callable[..., Any] | None) -> inspect.Signature:
    """Return a constructor's signature, in which the arguments that all share take the place of ``**``."""
    own = inspect.signature(function).parameters
    known = [parameter for parameter in own.values() if parameter.kind != parameter.VAR_KEYWORD]
    if shared is not None and len(known) < len(own):
        others = inspect.signature(shared).parameters.values()
        known += [other.replace(kind=other.KEYWORD_ONLY) for other in others if other.name not in own]
    return inspect.Signature(known)


def bound(call: Call, known: inspect.Signature) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments that a call gives, by name, and all of the constructor, defaults included.

    Raises
    ------
    Refusal
        If it has no argument of a name, which names the nearest; or if one is missing or given twice.
    """
    for name in call.named:
        if name not in known.parameters:
            hint = near(name, known.parameters) or f"there are {', '.join(known.parameters)}"
            raise Refusal(f"{call.name} has no argument {name!r}; {hint}")
    try:
        arguments = known.bind(*call.positional, **call.named)
    except TypeError as error:
        raise Refusal(f"{call.name}: {error}") from None
    given = dict(arguments.arguments)
    arguments.apply_defaults()
    return given, arguments.arguments


class Translation(NamedTuple):
    """What fastopt has in the place of another library's constructor.

    Attributes
    ----------
    rule : str
        The name of the class.
    arguments : dict
        Its arguments that aren't its defaults, and some others.
    remarks : tuple of str
        What to know of it.
    others : Translation or None
        The rule of all arrays but matrices, if it is another.
    lag : int
        Number of steps after which the other library heeds a learning rate that was assigned.
    constant : str
        Why steps differ once the learning rate changes; "" if they don't.
    tolerance : float
        Largest relative difference after 20 steps.
    side : int
        Least number of rows and columns of the matrices for which the steps are the same.
    """

    rule: str
    arguments: dict[str, Any]
    remarks: tuple[str, ...] = ()
    others: "Translation | None" = None
    lag: int = 0
    constant: str = ""
    tolerance: float = 1e-12
    side: int = 1

    def remark(self, text: str) -> "Translation":
        """Return the same with one remark more."""
        return self._replace(remarks=(*self.remarks, text))

    def line(self) -> str:
        """Return what to write."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        own = f"fastopt.{self.rule}({given})"
        if self.others is None:
            return own
        return f'fastopt.Partition({{lambda key, param: param.ndim == 2: {own}, "*": {self.others.line()}}})'

    def optimizer(self) -> Optimizer:
        """Return the optimizer, or that of the matrices."""
        made: Optimizer = getattr(optimizers, self.rule)(**self.arguments)
        return made

    def members(self) -> list[Optimizer]:
        """Return the optimizer, and that of the other arrays if it is another."""
        return [self.optimizer()] + ([] if self.others is None else self.others.members())

    def build(self) -> Optimizer | Partition:
        """Return the optimizer, or the partition."""
        first, *rest = self.members()
        members: Any = {is_matrix: first, "*": rest[0]} if rest else {}
        return Partition(members) if rest else first


def is_matrix(key: Any, param: Any) -> bool:
    """Whether a parameter is a matrix."""
    return bool(param.ndim == 2)


# Arguments that are shown although they are as by default.
SHOWN = ("lr", "momentum")


def found(rule: str, **arguments: Any) -> Translation:
    """Return a class of fastopt with arguments, of which most of its defaults are left out.

    ``decoupled`` is left out where there is no weight decay, or it is as by default.

    Raises
    ------
    Refusal
        If there is no such class, or it hasn't one of the arguments and that one isn't 0, None or False.
    """
    cls = getattr(optimizers, rule, None)
    if cls is None:
        raise Refusal(f"fastopt has no {rule}")
    known = cls.__dataclass_fields__
    decay = arguments.get("weight_decay", known["weight_decay"].default)
    if not decay or arguments.get("decoupled") == cls.default_decoupled:
        arguments.pop("decoupled", None)
    for name, value in arguments.items():
        refuse_unless(name in known or not value, f"fastopt.{rule} has no {name}")
    in_order = [name for name in inspect.signature(cls).parameters if name in arguments]
    changed = [name for name in in_order if name in SHOWN or known[name].default != arguments[name]]
    return Translation(rule, {name: arguments[name] for name in changed})
