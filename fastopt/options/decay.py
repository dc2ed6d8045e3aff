"""Weight decay and the sign of the gradients."""

from dataclasses import dataclass

from fastopt.checks import choice, hyperparameter

__all__ = ["DecayFields"]


@dataclass(init=False, repr=False, eq=False, kw_only=True)
class DecayFields:
    """The fields of these options. In a rule's formula g is the gradient after all options.

    Parameters
    ----------
    weight_decay : float, default 0.0
        Factor λ of the weight decay, at least 0. By default it is an L2 penalty: g + λ·p replaces g. Rules
        with a weight decay in their own formula (`LARS`, `LAMB`, `NovoGrad`, `Adafactor`, `StableAdamW`,
        `AdamP`, `Prodigy`, `DAdaptAdam`, `ScheduleFreeAdamW`) document it themselves.
    decoupled : bool, optional
        Whether p shrinks by lr·λ·p at each step, instead of the L2 penalty. The gradient has no part in it.
        lr is the learning rate of the step and of the parameter's group. The default is True for `AdamW`,
        `Adan`, `AdaMini`, `MARS`, `Lion` and `Muon`, else False. Rules with a weight decay in their own
        formula keep it there by default; `LARS`, `LAMB` and `NovoGrad` take both values instead, `Adafactor`
        and `Prodigy` False, the others have no choice. `ScheduleFreeSGD` decays at the point where gradients
        are taken in both cases, as in its paper.
    decay_max_lr : float, optional
        The largest learning rate γ of the schedule, greater than 0. With it decoupled decay shrinks p by
        lr·(lr/γ)·λ·p, so that the gradients of layers which a normalization follows don't grow as the
        schedule ends (AdamC of Defazio 2025, arXiv:2506.02285, which leaves other layers as they are: give it
        to groups for that). lr_scale multiplies γ, too; a group's own lr is its own γ, if it is
        a number.
    decay_params : {"all", "matrices"}, default "all"
        Parameters to which weight_decay applies: all, or matrices only. "all" is as in PyTorch. "matrices"
        are arrays of at least two dimensions, which excludes biases and the parameters of normalization
        layers, unless they have two axes, such as (1, n).
    maximize : bool, default False
        Whether to maximize: −g replaces g, before weight decay is added.
    """

    weight_decay: float = hyperparameter(0.0, repr=False)
    decoupled: bool | None = choice(None, None, False, True)
    decay_max_lr: float | None = hyperparameter(None, above=0, repr=False, scheduled=False)
    decay_params: str = choice("all", "all", "matrices")
    maximize: bool = choice(False, False, True)
