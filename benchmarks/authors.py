"""Steps of rules that PyTorch and Keras lack, beside those of pytorch_optimizer and of optax.contrib.

``python -m benchmarks.authors`` prints the ratios of one run: both in turn, medians of blocks, one thread.
It needs torch and ``pip install --no-deps pytorch_optimizer``; for DoG and DoWG jax and optax.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import fastopt

from .timing import in_turn

NETWORKS = {
    "the book's network": [(784, 100), (100,), (100, 10), (10,)],
    "a million": [(1000, 1000)],
}
# For each rule the arguments that pytorch_optimizer's class needs, and the class, if it has another name.
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "ADOPT": ("ADOPT", {}),
    "LaProp": ("LaProp", {}),
    "MADGRAD": ("MADGRAD", {}),
    "QHAdam": ("QHAdam", {}),
    "AggMo": ("AggMo", {}),
    "AdaBound": ("AdaBound", {}),
    "ScheduleFreeRAdam": ("ScheduleFreeRAdam", {}),
    "StableAdamW": ("StableAdamW", {"kahan_sum": False}),
    "MARS": ("MARS", {"optimize_1d": True}),
    "AdamP": ("AdamP", {}),
    "DAdaptAdam": ("DAdaptAdam", {}),
    "AdaMuon": ("AdaMuon", {"use_muon": True}),
    "SOAP": ("SOAP", {}),
}
CONTRIB = {"DoG": "dog", "DoWG": "dowg"}


def arrays(shapes: list[tuple[int, ...]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return parameters and gradients in float32."""
    rng = np.random.default_rng(0)
    params, grads = ([rng.standard_normal(shape).astype("f4") for shape in shapes] for _ in range(2))
    return params, [0.01 * grad for grad in grads]


def own_step(rule: str, shapes: list[tuple[int, ...]]) -> Callable[[], Any]:
    """Return a step of fastopt's."""
    params, grads = arrays(shapes)
    optimizer = getattr(fastopt, rule)(threads=1)
    return lambda: optimizer.update(params, grads)


def torch_step(rule: str, shapes: list[tuple[int, ...]]) -> Callable[[], Any]:
    """Return a step of pytorch_optimizer's, as it is by default."""
    import pytorch_optimizer
    import torch

    torch.set_num_threads(1)
    name, arguments = RULES[rule]
    params, grads = arrays(shapes)
    tensors = [torch.nn.Parameter(torch.from_numpy(param)) for param in params]
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = torch.from_numpy(grad)
    groups: Any = tensors
    if arguments.get("use_muon"):
        groups, arguments = [{"params": tensors, "use_muon": True}], {}
    optimizer = getattr(pytorch_optimizer, name)(groups, **arguments)
    if hasattr(optimizer, "train"):
        optimizer.train()
    return lambda: optimizer.step()


def optax_step(rule: str, shapes: list[tuple[int, ...]]) -> Callable[[], Any]:
    """Return a step of optax's, compiled by jax."""
    import jax
    import optax

    params, grads = arrays(shapes)
    transform = getattr(optax.contrib, CONTRIB[rule])()

    @jax.jit
    def update(params: Any, state: Any) -> Any:
        changes, state = transform.update(grads, state, params)
        return optax.apply_updates(params, changes), state

    now = [[jax.numpy.asarray(param) for param in params]]
    now.append(transform.init(now[0]))

    def step() -> None:
        now[:] = jax.block_until_ready(update(*now))

    return step


if __name__ == "__main__":
    for title, shapes in NETWORKS.items():
        for rule in [*RULES, *CONTRIB]:
            own = [shape for shape in shapes if len(shape) == 2 or rule != "AdaMuon"]
            peer = (torch_step if rule in RULES else optax_step)(rule, own)
            ours, theirs = in_turn([own_step(rule, own), peer], 10, 9 if rule != "SOAP" else 3)
            print(f"{title:18} {rule:18} {ours:9.1f} µs, peer {theirs:9.1f} µs: {theirs / ours:5.1f}×")
