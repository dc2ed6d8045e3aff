"""State dicts of fastopt 0.1.0 before its options were parts, as they are written today."""

from collections.abc import Mapping
from typing import Any

from fastopt.arrays.containers import in_list, items
from fastopt.checks import renamed

__all__ = ["SUMS", "WANTED", "upgraded"]

WANTED = ["class", "hyperparameters", "iter", "skipped", "state"]
SUMS = "accumulate"
# What states and hyperparameters were called at commit 9d3eba2, and are today.
STATE_NAMES = {"slow": "m_slow", "before": "prev_grad", "size": "step_size"}
FIELD_NAMES = {"decay": "decay_params", "clip_each": "clip_norm_each", "d": "clip_threshold"}
# What has become a hyperparameter since, and did not exist before.
LATER_FIELDS: dict[str, Any] = {
    **{"denormals": "keep", "cautious": False},
    **{"decay_max_lr": None, "skip_norm": None, "lookahead_reset": False, "state_seed": 0},
    **{"clip_rms": None, "clip_adaptive_eps": 1e-3, "clip_norm_type": 2.0},
    **{"ema_init": "corrected", "ema_every": 1, "ema_overwrite": None, "swa_every": 1},
}
# Arguments of rules that came later; with their defaults the rules are what they were.
LATER_ARGUMENTS = (
    "adjust_lr", "alpha_warmup", "beta3", "beta3_warmup", "bias_correction", "corrected_eps",
    "correction", "d_coef", "eps_outside", "eps_root", "growth_rate", "initial_accumulator_value",
    "lr_decay", "multiply_by_parameter_scale", "nesterov", "ns_coefficients", "proximal", "r",
    "rectify", "relative_step", "safeguard_warmup", "threshold", "use_bias_correction",
    "weight_lr_power",
)  # fmt: skip
# States that a rule has had since then, and of which other one they are copies where they are new.
LATER_STATES = {"Prodigy": {"d_max": "d"}}


def upgraded(state: Any, optimizer: Any) -> Any:
    """Return a state dict as it is written today, from one of fastopt 0.1.0 before its options were parts."""
    if not isinstance(state, Mapping) or not isinstance(state.get("state"), Mapping):
        return state
    if optimizer.inner and state.get("class") == "Muon":
        state = without_fallback(state, optimizer)
    own = {spec.name for spec in optimizer.engine.memory.specs}
    hyperparameters, result, names = state.get("hyperparameters"), dict(state), dict(STATE_NAMES)
    names["average"] = "ema.average"
    if "m_slow" not in own:
        names["slow"] = "lookahead.slow"
    if isinstance(hyperparameters, Mapping):
        wanted = {*optimizer.saved_fields()}
        defaults = {name: optimizer.__dataclass_fields__[name].default for name in wanted}
        later = {name: value for name, value in defaults.items() if name in (*LATER_FIELDS, *LATER_ARGUMENTS)}
        result["hyperparameters"] = later | renamed(hyperparameters, FIELD_NAMES, wanted)
        if hyperparameters.get("swa") is not None:
            names["average"] = "swa.average"
    kept = {name: values for name, values in state["state"].items() if name != "touched" or name in own}
    result["state"] = renamed(kept, names, own)
    for name, source in LATER_STATES.get(type(optimizer).__name__, {}).items():
        if name not in result["state"] and source in result["state"]:
            result["state"][name] = result["state"][source]
    inner = state.get("inner")
    if isinstance(inner, Mapping) and isinstance(inner.get("accumulated"), Mapping):
        old = dict(inner["accumulated"])
        every = hyperparameters.get("accumulate", 1) if isinstance(hyperparameters, Mapping) else 1
        try:
            count = old["iter"] - state["iter"] * every
            total = old["state"]["total"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"its accumulated: {error!r}") from None
        count = count if 0 <= count < every else 0
        old |= {
            "class": "Accumulation",
            "hyperparameters": {},
            "state": {"accumulate.total": total},
            "counts": {key: count for key, _ in items(total or {})},
        }
        result["inner"] = {
            SUMS: old,
            **{name: value for name, value in inner.items() if name != "accumulated"},
        }
    return result


def without_fallback(state: Mapping[str, Any], partition: Any) -> Mapping[str, Any]:
    """Return the state dict of a partition, from one of Muon with a fallback of fastopt 0.1.0."""
    inner = dict(state["inner"]) if isinstance(state.get("inner"), Mapping) else {}
    parts = {
        str(part.get("class")): {key: part[key] for key in WANTED if key in part}
        for part in (state, inner.pop("fallback", None))
        if isinstance(part, Mapping) and isinstance(part.get("state"), Mapping)
    }
    names = {type(member).__name__: name for name, member in partition.inner.items()}
    if names.keys() != parts.keys() or len(names) < len(partition.inner):
        raise ValueError(f"it is the state of {' and '.join(parts)}, not of {' and '.join(names)}")
    # Both had options of their own, but the micro-batches were those of all arrays.
    given: list[Any] = [part.get("hyperparameters") for part in parts.values()]
    if not all(isinstance(values, Mapping) for values in given):
        raise ValueError("its hyperparameters must be dicts")
    own = {name: getattr(partition, name) for name in partition.saved_fields()}
    own |= {name: value for name, value in LATER_FIELDS.items() if name in own}
    for name, default in (("nonfinite", "warn"), ("accumulate", 1)):
        own[name] = next((values[name] for values in given if values.get(name, default) != default), default)
    # The arrays of a list were in dicts by their indices.
    found = [kept for part in parts.values() for kept in part["state"].values() if isinstance(kept, Mapping)]
    is_list = any(found) and all(type(key) is int for kept in found for key in kept)
    for part in parts.values():
        part["hyperparameters"] = {**part["hyperparameters"], "accumulate": 1, "nonfinite": own["nonfinite"]}
        part["state"] = {
            name: in_list(kept) if kept and is_list else kept or None for name, kept in part["state"].items()
        }
    result = {"class": type(partition).__name__, "hyperparameters": own, "state": {}}
    result |= {key: state[key] for key in ("iter", "skipped") if key in state}
    return result | {"inner": inner | {names[kind]: part for kind, part in parts.items()}}
