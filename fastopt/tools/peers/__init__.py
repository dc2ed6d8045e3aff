"""Constructors of other libraries: the same in fastopt, or the reason why not.

Constructors of PyTorch, optax, Keras and MLX are functions here with the same names and signatures
(``*_rules.py``). So Python itself binds the arguments of a call and knows their defaults; the call is read
by ``ast`` and never evaluated. A function returns a class of fastopt with its arguments, or raises `Refusal`
with the reason.

Steps are then the same to 1e-12 in float64, with a schedule, too, unless the translation says what differs:
a ``tolerance`` (eps elsewhere, the other library's own float32), a ``constant`` learning rate, a ``lag`` of
a step, or the least ``side`` of matrices. ``settings.py`` and ``torch_settings.py`` have what is tried, each
argument at least once; ``python -m fastopt rules --peers`` tries them all. An argument or rule that comes to
fastopt later often needs one line there: a class without an argument that is given is refused by name.
"""
