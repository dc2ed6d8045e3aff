"""The functions: their signatures and docstrings, made from the classes."""

import re
from collections.abc import Callable
from inspect import Parameter, Signature, getdoc
from typing import Any

from fastopt.functional.calls import Calls

__all__ = ["make"]

HEADINGS = re.compile(r"^(\w[\w ]*)\n-+\n", re.MULTILINE)

PARAMETERS = """param : array, or list of arrays
    The parameter, updated in place: any shape and layout, float32 or float64 (float16 is updated in float32
    and rounded).
grad : array, or list of arrays
    Its gradient, of its shape; real numbers of any dtype. Never written to.
"""
STEP = """t : int
    The number of this step, from 1.
"""
OPTIONAL_STEP = """t : int, optional
    The number of this step, from 1. Needed with {}.
"""
OPTIONS = """weight_decay : float
    Factor λ of the weight decay, at least 0; as documented for the class.
decoupled : bool, optional
    Whether p shrinks by lr·λ·p, instead of λ·p being added to g; by default as the class does.
maximize : bool, default False
    Whether −g takes the place of g.
"""
RAISES = """TypeError, ValueError
    If an argument isn't as it must be. Nothing has changed then.
"""
EXAMPLE = """>>> W, dW = np.eye(2), np.array([[1.0, 2.0], [3.0, 5.0]])
>>> states = {function}.states(W, dW)
>>> {function}(W, dW, *states{step})
>>> params = [np.eye(2)]
>>> {rule}().update(params, [dW])
True
>>> np.array_equal(W, params[0])  # the step of the class
True
"""
NOTES = """States are updated in place. ``{name}.states(param, grad=None)`` returns those before the first
step. The class is `{rule}`.
"""


def sections_of(text: str) -> dict[str, str]:
    """Return what a docstring has under each heading; before the first one under an empty name."""
    parts = HEADINGS.split(text)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def make(name: str, rule: Any) -> Callable[..., None]:
    """Return a rule as a function."""
    calls, n_states = Calls(name, rule), len(rule.states)

    def step(param: Any, grad: Any, *states: Any, t: Any = None, **hyperparameters: Any) -> None:
        if type(param) is tuple:
            param, grad = list(param), list(grad)
            states = tuple(list(own) if type(own) is tuple else own for own in states)
        if len(states) != n_states:
            states = calls.all_states(states, hyperparameters)
        calls.take(param, grad, states, t, hyperparameters)

    step.__name__ = step.__qualname__ = name
    step.__doc__ = docstring(name, rule, calls.needs_step)
    kinds = Parameter
    parameters = [kinds(n, kinds.POSITIONAL_OR_KEYWORD) for n in ("param", "grad", *rule.states)]
    if calls.needs_step:
        parameters.append(kinds("t", kinds.KEYWORD_ONLY))
    elif rule.step_arguments:
        parameters.append(kinds("t", kinds.KEYWORD_ONLY, default=None))
    parameters += [kinds(n, kinds.KEYWORD_ONLY, default=x) for n, x in calls.defaults.items()]
    signed: Any = step
    signed.__signature__, signed.states = Signature(parameters, return_annotation=None), calls.states
    return step


def place_of(rule: Any) -> str:
    """Return where a program finds a class of this package."""
    module = rule.__module__
    return f"fastopt.{rule.__name__}" if module.rpartition(".")[2] != "peers" else f"{module}.{rule.__name__}"


def docstring(name: str, rule: Any, needs_step: bool) -> str:
    """Return the docstring of a function: that of the class, with the arrays among the parameters."""
    own, optional = sections_of(getdoc(rule) or ""), " or ".join(rule.step_arguments)
    step = STEP if needs_step else OPTIONAL_STEP.format(optional) if optional else ""
    states = own.get("Attributes", "").replace("dict or list of arrays, or None", "array, or list of arrays")
    parameters = PARAMETERS + states + step + own.get("Parameters", "") + OPTIONS
    sections = {
        "Parameters": parameters,
        "Raises": RAISES,
        "Notes": NOTES.format(name=name, rule=place_of(rule)),
    }
    sections |= {"References": own["References"]} if "References" in own else {}
    place = place_of(rule)
    module = "fastopt.adapters.rules" if ".peers." in place else "fastopt.functional"
    sections["Examples"] = EXAMPLE.format(
        function=f"{module}.{name}", rule=place, step=", t=1" if needs_step else ""
    )
    lines = [f"{own['']}"]
    for heading, text in sections.items():
        body = re.sub("\n+(?=\\w.* : )", "\n", text.strip())
        lines.append(f"{heading}\n{'-' * len(heading)}\n{body}\n")
    return "\n".join(lines)
