"""What compiled code must know of the processor."""

import sys
from functools import cache

__all__ = ["flush_bits", "is_arm", "is_x86"]


@cache
def machine() -> str:
    """Return the name of the kind of processor that this Python is made for."""
    if sys.platform == "win32":  # which may run one for x86-64 on ARM64, where `platform` names the latter
        import sysconfig

        return sysconfig.get_platform().removeprefix("win-").lower()
    import platform  # which takes time that most programs need not spend

    return platform.machine().lower()


def is_x86() -> bool:
    """Whether it is an x86-64 one."""
    return machine() in ("x86_64", "amd64")


def is_arm() -> bool:
    """Whether it is an ARM64 one."""
    return machine() in ("aarch64", "arm64")


def flush_bits() -> int:
    """Return the bits of a thread's floating-point mode with which denormals count as 0.

    These are FTZ and DAZ in x86's MXCSR, FZ in ARM's FPCR; 0 on other processors.
    """
    return 0x8040 if is_x86() else 1 << 24 if is_arm() else 0
