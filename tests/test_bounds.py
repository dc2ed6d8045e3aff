"""Bounds of hyperparameters and options, as the fields' metadata have them."""

from dataclasses import fields
from math import inf, nan, nextafter

import numpy as np
import pytest
from cases import RULES, made

import fastopt
from fastopt.configuration import Configuration

# Numbers of another type than a field's, and what is none.
NO_NUMBERS = ["0.1", True, np.True_, None, 1j, [0.1], np.ones(1)]
NO_WHOLE_NUMBERS = [0.0, 1.5, nan, "1", True, None]
# Averages that are multiplied by themselves at each step grow without bound if they are above 1.
DECAYS = ("beta", "beta1", "beta2", "beta3", "dampening", "decay_rate", "momentum", "nu1", "nu2", "rho")
# In these beta is no decay of an average.
OTHER_BETAS = [("OptimisticGD", "beta"), ("FTRL", "beta")]
# Options that others need, which say how they are meant.
NEEDED = {"ema": 0.9, "swa": 1, "lookahead": (6, 0.5), "clip_adaptive": 0.01, "decoupled": True}


def checked_fields(*keys):
    """Return the rules and the names of their fields that have one of these in their metadata."""
    options = Configuration.__dataclass_fields__
    found = []
    for rule in RULES:
        for field in fields(getattr(fastopt, rule)):
            # All rules have the options: the first stands for them.
            if (field.name not in options or rule == RULES[0]) and {*keys} & {*field.metadata}:
                found.append((rule, field.name))
    return found


def field_of(rule, name):
    return getattr(fastopt, rule).__dataclass_fields__[name]


def is_whole(rule, name):
    return "int" in str(field_of(rule, name).type)


def limits(rule, name):
    """Return the least and the largest number that a field may be, and those just outside."""
    bounds = field_of(rule, name).metadata["bounds"]
    if is_whole(rule, name):
        return [bounds["least"]], [bounds["least"] - 1]
    above, below, most = bounds.get("above", -inf), bounds.get("below", inf), bounds.get("most", inf)
    least, largest = max(bounds["least"], nextafter(above, inf)), min(most, nextafter(below, -inf))
    return [least, largest], [nextafter(least, -inf), nextafter(largest, inf)]


def optimizer_for(rule, name, **arguments):
    """Return an optimizer with what a field needs."""
    needed = "decoupled" if name == "decay_max_lr" else field_of(rule, name).metadata["of"]
    return made(fastopt, rule, **arguments, **({needed: NEEDED[needed]} if needed else {}))


def refuse(rule, name, value, error):
    """Check that a value is refused by name in an assignment and by the constructor, and changes nothing."""
    optimizer = optimizer_for(rule, name)
    before = getattr(optimizer, name)
    with pytest.raises(error, match=f"^{name} must be "):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) is before
    with pytest.raises(error, match=f"^{name} must be "):
        optimizer_for(rule, name, **{name: value})


@pytest.mark.parametrize(("rule", "name"), checked_fields("bounds"))
def test_numbers_are_taken_up_to_the_bounds(rule, name):
    inside, outside = limits(rule, name)
    for value in inside:
        optimizer = optimizer_for(rule, name)
        setattr(optimizer, name, value)
        assert getattr(optimizer, name) == value
    for value in (*outside, 10**400) if not is_whole(rule, name) else outside:
        refuse(rule, name, value, ValueError)


@pytest.mark.parametrize(("rule", "name"), checked_fields("bounds"))
def test_what_is_no_number_is_refused(rule, name):
    may_be_none = field_of(rule, name).default is None
    for value in NO_WHOLE_NUMBERS if is_whole(rule, name) else NO_NUMBERS:
        if value is not None or not may_be_none:
            refuse(rule, name, value, TypeError)
    if not is_whole(rule, name):
        for value in (nan, inf, -inf):
            refuse(rule, name, value, ValueError)


@pytest.mark.parametrize(("rule", "name"), checked_fields("values"))
def test_one_of_several_values_is_taken(rule, name):
    values = field_of(rule, name).metadata["values"]
    assert field_of(rule, name).default in values
    for value in values:
        optimizer = optimizer_for(rule, name)
        setattr(optimizer, name, value)
        assert getattr(optimizer, name) is value
    refuse(rule, name, "another", ValueError)
    refuse(rule, name, 2, TypeError)


def test_decays_are_bounded():
    found = [key for key in checked_fields("bounds") if key[1] in DECAYS and key not in OTHER_BETAS]
    assert {name for _, name in found} == {*DECAYS}
    for rule, name in found:
        bounds = field_of(rule, name).metadata["bounds"]
        assert bounds["least"] == 0
        assert bounds.get("most", bounds.get("below")) == 1, f"{rule}: {name} must have most=1 or below=1"
