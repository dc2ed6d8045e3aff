"""`Configuration`: the hyperparameters and options of an optimizer, and the order of those that are on.

The order of the options in a step: gradients that are too large are left out (``skip_norm``); micro-batches;
record; schedules; clipping to copies; the norm. Averages follow the rule, in compiled code.
`gradient_options` and `Configuration.arrange` have this order; no option knows another.

`Configuration`, `UpdateRule`, `Stepping`, `CheckedFields`, `Scheduling` and `Averaging` are bases of
`Optimizer`, a file each, rather than objects that it has: fields must be on the class for its constructor.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from fastopt.documentation import DocumentedType
from fastopt.engine.engine import Engine
from fastopt.engine.memory import StateSpec
from fastopt.engine.plan import Arrays
from fastopt.engine.rules import Rule
from fastopt.engine.segment import Calls, Segment
from fastopt.engine.threads import check_threads
from fastopt.options.accumulation import Accumulation, AccumulationFields
from fastopt.options.averages import AverageFields, Lookahead, MovingAverage, WeightAverage
from fastopt.options.base import Option
from fastopt.options.cautious import CautiousFields
from fastopt.options.clipping import Bounds, ClipNorm, ClippingFields, GradientCopies
from fastopt.options.decay import DecayFields
from fastopt.options.denormals import DenormalFields
from fastopt.options.groups import (
    GroupFields,
    Grouping,
    GroupViews,
    check_group_values,
    group_schedules,
)
from fastopt.options.nonfinite import NonfiniteFields
from fastopt.options.quantization import QuantizationFields
from fastopt.options.schedule import ScheduledValues
from fastopt.options.skipping import SkipLarge, SkippingFields
from fastopt.options.sparse import SparseFields
from fastopt.rule import UpdateRule
from fastopt.stepping import Stepping

__all__ = ["Configuration", "gradient_options"]

# Options whose value is part of a plan.
PLANNED = frozenset(("groups", "decay_params", "nonfinite", "denormals", "cautious", "threads"))


# The dataclasses with the options' fields.
SOURCES = (
    DecayFields, GroupFields, ClippingFields, AverageFields, AccumulationFields, SparseFields,
    NonfiniteFields, SkippingFields, CautiousFields, DenormalFields, QuantizationFields,
)  # fmt: skip


class Derived:
    """What an optimizer has besides its fields, and what `Stepping` names.

    Attributes
    ----------
    averaging : list of Option
        The options that keep an average.
    grad_sign : float
        −1 with ``maximize``, else 1.
    is_repeatable : bool
        Whether the next step may be kept: all that differs is what the options do, and scalars.
    is_plain, is_neutral : bool
        Whether options change no more than scalars; and whether these are the rule's alone.
    restart_every : int
        Number of steps after which the rule of a parameter begins anew, or 0.
    views : GroupViews
        The hyperparameters of groups.
    last_grouping : tuple
        The token and the groups of the last step.
    """

    averaging: list[Option]
    grad_sign: float
    is_repeatable: bool
    is_plain: bool
    is_neutral: bool
    restart_every: int
    views: GroupViews
    last_grouping: tuple[object, Grouping | None]


def gradient_options(owner: Any) -> list[Option]:
    """Make the options that act on the gradients, in their order; micro-batches that are in are kept."""
    own, options = vars(owner), list[Option]()
    kept, own["accumulation"] = own["accumulation"], None
    if owner.skip_norm is not None:
        options.append(SkipLarge(owner.skip_norm))
    if owner.accumulate > 1:
        is_same = kept is not None and kept.every == owner.accumulate
        own["accumulation"] = kept if is_same else Accumulation(owner.accumulate)
        options.append(own["accumulation"])
    if own["history"] is not None:
        options.append(own["history"])
    if owner.schedules or group_schedules(own.get("groups")):
        options.append(ScheduledValues(owner.schedules, owner.check_of))
    bounds = Bounds(*(getattr(owner, f"clip_{name}") for name in Bounds._fields))
    if any(bound is not None for bound in bounds[:4]):
        options.append(GradientCopies(bounds))
    if owner.clip_norm is not None:
        options.append(ClipNorm(owner.clip_norm, owner.clip_norm_type))
    return options


if TYPE_CHECKING:

    class OptionFields(
        DecayFields, GroupFields, ClippingFields, AverageFields, AccumulationFields, SparseFields,
        NonfiniteFields, SkippingFields, CautiousFields, DenormalFields, QuantizationFields,
    ):  # fmt: skip
        """The fields of all options."""

else:  # One class, as Python's help lists all from which a class inherits.
    OptionFields = make_dataclass(
        "OptionFields",
        [(known.name, known.type, known) for source in reversed(SOURCES) for known in fields(source)],
        namespace={"__module__": __name__, "__doc__": "The fields of all options."},
        init=False, repr=False, eq=False, kw_only=True,
    )  # fmt: skip


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class Configuration(Stepping, UpdateRule, Derived, OptionFields, metaclass=DocumentedType):
    """The fields of an optimizer, and what follows from them.

    Parameters
    ----------
    threads : int, optional
        Number of threads of a large step; by default that of `fastopt.set_num_threads`.
    """

    threads: int | None = field(default=None, repr=False, metadata={"check": check_threads, "saved": False})

    def arrange(self) -> None:
        """Note which options are on, in the order in which they act."""
        own, options = vars(self), gradient_options(self)
        averaging = self.averaging_options()
        own |= {"options": (*options, *averaging), "averaging": averaging}
        own |= {"grad_sign": -1.0 if self.maximize else 1.0, "views": GroupViews()}
        own["is_repeatable"] = own["accumulation"] is None and self.n_totals == 0
        own["restart_every"] = self.lookahead[0] if self.lookahead and self.lookahead_reset else 0
        own["is_plain"] = not options and not own["restart_every"]
        own["is_neutral"] = not (
            options
            or averaging
            or self.groups
            or self.decay_params != "all"
            or self.maximize
            or self.state_dtype
            or self.decays_weights()
        )
        own["kept"] = None

    def averaging_options(self) -> list[Option]:
        """Make the options that keep an average, in the order in which they act."""
        averaging: list[Option] = []
        if self.lookahead is not None:
            averaging.append(Lookahead(self.lookahead, self.lookahead_reset))
        if self.ema is not None:
            averaging.append(MovingAverage(self.ema, self.ema_init, self.ema_every, self.ema_overwrite))
        if self.swa is not None:
            averaging.append(WeightAverage(self.swa, self.swa_every))
        return averaging

    @property
    def has_groups(self) -> bool:
        """Whether hyperparameters differ between parameters."""
        return self.groups is not None or self.decay_params != "all"

    @property
    def takes_single_arrays(self) -> bool:
        """Whether packed arrays must be looked at one by one."""
        return self.has_groups or self.cautious or self.state_dtype is not None

    def adapt_rule(self, rule: Rule) -> Rule:
        """Return the rule with what the options change of it."""
        roundings = tuple(spec.rounding for spec in self.state_specs) if self.state_dtype else ()
        rule = rule._replace(flushes_denormals=self.denormals == "flush", roundings=roundings)
        return rule.cautious() if self.cautious else rule

    @property
    def step_rule(self) -> Rule:
        """The rule as steps take it."""
        return self.adapt_rule(self.engine.rule)

    def reason_for_whole_arrays(self) -> str | None:
        """Return what needs whole arrays: the rule, an option, or nothing."""
        if self.rule_is_whole() and not self.takes_rows:
            return type(self).__name__
        if self.state_dtype is not None:
            return f"state_dtype={self.state_dtype!r}"
        return "cautious=True" if self.cautious else None

    @property
    def has_average(self) -> bool:
        """Whether an option or the rule keeps an average of the parameters."""
        has_own = type(self).own_average is not UpdateRule.own_average
        return has_own or self.ema is not None or self.swa is not None

    def decays_weights(self) -> bool:
        """Whether there is any weight decay that isn't a part of the rule's formula."""
        groups = (self.groups or {}).values()
        is_on = self.weight_decay or any(own.get("weight_decay") for own in groups)
        is_on = is_on or "weight_decay" in self.schedules
        choices = self.decoupled, *(own.get("decoupled") for own in groups)
        is_outer = self.default_decoupled is not None or any(own in self.decay_choices for own in choices)
        return bool(is_on) and is_outer

    @classmethod
    def check_together(cls, named: Mapping[str, Any]) -> None:
        """Raise ValueError if arguments of the constructor don't go together."""
        super().check_together(named)
        if named.get("decay_max_lr") is not None:
            decoupled = named.get("decoupled")
            is_inner = cls.default_decoupled is None and True not in cls.decay_choices
            if is_inner or cls.decay_scalars is not UpdateRule.decay_scalars:
                raise ValueError(
                    f"{cls.__name__} has its weight decay in its formula: leave decay_max_lr out"
                )
            if not (cls.default_decoupled if decoupled is None else decoupled):
                raise ValueError("decay_max_lr is for decoupled weight decay: write decoupled=True, too")

    def check_options(self) -> None:
        """Raise ValueError or TypeError if options don't go together."""
        name = type(self).__name__
        self.check_groups(self.groups)
        self.check_decoupled(self.decoupled)
        self.check_quantized()
        is_shared = any(spec.is_shared for spec in self.state_specs)
        if self.lookahead_reset and (is_shared or self.n_totals):
            raise ValueError(
                f"lookahead_reset can't be had with {name}, whose parameters share a part of the state"
            )
        if self.ema is not None and self.swa is not None:
            raise ValueError("ema and swa are two averages: choose one")

    def check_quantized(self) -> None:
        """Raise ValueError if the rule has no state that can be in fewer bytes."""
        if self.state_dtype is None:
            return
        name = type(self).__name__
        if self.rule_is_whole():
            raise ValueError(f"{name} needs whole arrays, whose states stay in full: leave state_dtype out")
        if all(spec.rounding is None for spec in self.state_specs):
            raise ValueError(f"{name} has no state that may be rounded: leave state_dtype out")

    @property
    def state_specs(self) -> list[StateSpec]:
        """The rule's states."""
        specs = [getattr(type(self), name).spec for name in type(self).states]
        return [spec._replace(format=self.state_dtype) for spec in specs]

    def group_names(self) -> list[str]:
        """Return the names of the hyperparameters that groups may have."""
        shared = {*Configuration.__dataclass_fields__, *self.ungrouped}
        shared -= {"weight_decay", "decoupled", "decay_max_lr"}
        return [known.name for known in fields(self) if known.name not in shared]

    def check_groups(self, groups: Any) -> None:
        """Raise ValueError or TypeError if a group has what it can't have."""
        lr = vars(self)["lr"]
        check_group_values(groups, self.group_names(), self.check_of, lr, self.present_value)
        for selector, own in (groups or {}).items():
            self.check_decoupled(own.get("decoupled"), f"groups[{selector!r}]: ")

    def check_decoupled(self, decoupled: Any, where: str = "") -> None:
        """Raise ValueError if the rule can't have this kind of weight decay."""
        if self.default_decoupled is None and decoupled not in (None, *self.decay_choices):
            how = "True" if self.decay_choices else "chosen"
            name = type(self).__name__
            raise ValueError(f"{where}{name} has its weight decay in its formula: decoupled can't be {how}")

    def why_unscheduled(self, name: str) -> str | None:
        """Return why a hyperparameter can't have a schedule, or None if it can."""
        own = self.unscheduled.get("lr" if name == "lr_scale" else name)
        if own is None and name in self.ungrouped:
            own = "is the same for all parameters and steps"
        return super().why_unscheduled(name) if own is None else own

    def check_change(self, name: str, changes: dict[str, Any]) -> None:
        """Raise ValueError or TypeError if a field can't change now, or not to this value."""
        if name == "groups":
            self.check_groups(changes[name])
        super().check_change(name, changes)

    def change_calls(self, name: str, changes: dict[str, Any]) -> Calls:
        """Return the C calls that assign a field's new value together with all that depends on it."""
        new = self.derived_attributes(changes, is_new=self.is_fixed(name))
        calls: Calls = [partial(vars(self).update, new)]
        if name in PLANNED:
            new["token"] = object()  # no plan of before is for it
            calls += self.engine.unpack_calls()
        return calls + self.engine.retire_calls() if self.is_fixed(name) else calls

    def begin(self) -> None:
        """Make options and engine anew, without state."""
        own = vars(self)
        own["accumulation"] = None
        self.check_options()
        self.arrange()
        averages = [spec for option in self.averaging for spec in option.averages]
        own["engine"] = Engine(self.rule(), [*self.state_specs, *averages], len(averages))

    def grouping_of(self, arrays: Arrays) -> Grouping | None:
        """Return the groups of these parameters, if there are any."""
        if not self.has_groups:
            return None
        token = self.token  # before the groups that it stands for
        last, grouping = self.last_grouping
        if grouping is None or last is not token or grouping.keys != list(arrays.keys):
            memory = self.engine.memory
            known = {**memory.saved_counts, **memory.layout}
            if self.accumulation is not None:
                known |= self.accumulation.engine.memory.layout
            only_matrices = self.decay_params == "matrices"
            grouping = Grouping(
                self.groups or {}, only_matrices, list(arrays.keys), arrays.params, known, self.check_of
            )
            vars(self)["last_grouping"] = token, grouping
        return grouping

    def group_views(self, grouping: Grouping | None, scheduled: Mapping[Any, float]) -> list[Any]:
        """Return an optimizer for each group, with its hyperparameters, to ask for scalars.

        ``scheduled`` are values by schedules, as a `Step` has them.
        """
        if grouping is None and not scheduled and not self.n_totals:
            return [self]
        return self.views.of(self, grouping, scheduled)

    def shown_views(self, grouping: Grouping | None) -> list[Any]:
        """Return the same with the values of the last step."""
        return self.group_views(grouping, {name: vars(self)[name] for name in self.schedules})

    def calls_between(self) -> Callable[[Segment], Calls] | None:
        """Return what gives the calls between the statistics pass and the update, if there are any."""
        has_own = type(self).intermediate_calls is not UpdateRule.intermediate_calls
        return self.intermediate_calls if has_own else None

    def changes_of_all_rows(self) -> list[str]:
        """Return what changes rows of a parameter that have no gradient."""
        if self.rows == "lazy":
            return []
        decays = self.decays_weights()
        averages = [spec.name.split(".")[0] for option in self.options for spec in option.averages]
        own = [] if self.zero_grad_is_noop else [type(self).__name__]
        return own + ["weight decay"] * bool(decays) + averages


# What the help of each rule names.
DocumentedType.option_sources = (*SOURCES, Configuration)
