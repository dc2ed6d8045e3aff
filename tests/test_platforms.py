"""What other systems and processors do otherwise, as far as it can be tried on any of them."""

import ctypes
import errno
import os
import re
import select
import subprocess
import sys
from types import SimpleNamespace

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba import int64
from test_compiled import PACKAGE, needs_jit

import fastopt
from fastopt.checkpoints import files
from fastopt.engine import machine, threads
from fastopt.engine.compiling import background, folder
from fastopt.engine.compiling.units import driver_unit, others_unit
from fastopt.engine.native import emission

# Instructions that round a product and a sum at once, on ARM64 and on x86-64.
FUSED = re.compile(r"\b(?:v?fn?m(?:add|sub)\w*|fml[as]|fmul?acc)\b")

# Numba and fastopt load ELF files on Windows, too.
WINDOWS = "x86_64-pc-windows-msvc-elf"


def assembly(module, triple, cpu=""):
    """Return the instructions of a module for another processor or system."""
    # Without the functions of this processor's mode of floating-point numbers.
    text = re.sub(r"[^\n]*call void @llvm\.x86\.sse\.\w+mxcsr\([^\n]*", "", str(module))
    if re.search(r"call[^\n]* @llvm\.(x86|aarch64)\.", text):
        pytest.skip("the code has instructions that only this processor has")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"this LLVM makes no code for {triple}")
    other = llvm.parse_assembly(text)
    other.triple = triple
    return target.create_target_machine(cpu=cpu, opt=3, codemodel="jitdefault").emit_assembly(other)


def modules_of(unit):
    """Return the LLVM code of a unit's functions."""
    functions = unit.functions()
    emission.load_registries()
    return [
        emission.compile_alone(name, function.dispatcher, (int64,) * n)
        for name, (function, n) in functions.items()
    ]


def kernel_units():
    kinds = [np.dtype("float32"), np.dtype("float64")]
    rules = (fastopt.Momentum, fastopt.Adam, fastopt.AdaDelta)
    return {unit.title: unit for rule in rules for unit in rule.units(kinds)[1:-1]}


@needs_jit
@pytest.mark.parametrize(
    ("triple", "cpu"), [("aarch64-linux-gnu", "neoverse-n1"), ("x86_64-linux-gnu", "haswell")]
)
def test_no_processor_fuses_a_product_and_a_sum(triple, cpu):
    """It would round once where the book's formulas round twice. ARM64 and newer x86-64 can do so."""
    allowed = """
        define double @f(double %a, double %b, double %c) {
          %product = fmul contract double %a, %b
          %sum = fadd contract double %product, %c
          ret double %sum
        }
    """
    assert FUSED.search(assembly(allowed, triple, cpu)), "the search finds nothing"
    units = kernel_units()
    assert len(units) == 6
    for title, unit in [*units.items(), ("averages", others_unit())]:
        for module in modules_of(unit):
            assert not FUSED.search(assembly(module, triple, cpu)), title


@pytest.mark.long
@needs_jit
def test_code_for_windows_calls_nothing_that_only_its_linker_knows():
    """A function with more than a page on the stack calls `__chkstk` there, which LLVM may not find."""
    large = """
        declare void @use(i8*)
        define void @f() {
          %room = alloca [9000 x i8]
          %at = bitcast [9000 x i8]* %room to i8*
          call void @use(i8* %at)
          ret void
        }
    """
    assert "__chkstk" in assembly(large, WINDOWS), "the search finds nothing"
    for unit in (driver_unit(), others_unit(), *kernel_units().values()):
        for module in modules_of(unit):
            assert "__chkstk" not in assembly(module, WINDOWS), unit.title


@pytest.mark.skipif(sys.platform == "win32", reason="it has no poll")
def test_the_end_of_the_other_process_is_seen_on_macos(monkeypatch):
    """Its `poll` tells nothing of a pipe of which nothing is asked."""
    poll = select.poll

    class Poll:
        def __init__(self):
            self.real, self.asks = poll(), False

        def register(self, file, events):
            self.asks = bool(events)
            self.real.register(file, events)

        def poll(self, timeout):
            return self.real.poll(timeout) if self.asks else []

    monkeypatch.setattr(select, "poll", Poll)
    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as stdin:
        process = SimpleNamespace(stdin=stdin)
        assert not background.is_over(process)
        os.set_blocking(write, False)
        while stdin.write(bytes(2**16)):  # until it is full: then it can't be written to, but it is read
            pass
        assert not background.is_over(process)
        os.close(read)
        assert background.is_over(process)


@pytest.fixture
def windows(monkeypatch):
    """Let the code take the ways of Windows."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(folder, "DELAYS", (0.0, 0.0, 0.0))


def failing(function, n_failures, error):
    """Return a function that fails some times before it does what another one does."""
    left = [error] * n_failures

    def call(*arguments):
        if left:
            raise left.pop()
        return function(*arguments)

    return call


def test_windows_replaces_a_file_when_nobody_reads_it_any_more(request, monkeypatch, tmp_path):
    params = {"W": np.ones(3)}
    optimizer, path = fastopt.Adam(), tmp_path / "a.npz"
    optimizer.update(params, {"W": np.ones(3)})
    optimizer.save(path)
    request.getfixturevalue("windows")  # from here, as what was compiled so far was compiled elsewhere
    before, replace = path.read_bytes(), os.replace
    optimizer.update(params, {"W": np.ones(3)})
    monkeypatch.setattr(os, "replace", failing(replace, 4, PermissionError(errno.EACCES, "in use")))
    with pytest.raises(PermissionError):
        optimizer.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(os, "replace", failing(replace, 3, PermissionError(errno.EACCES, "in use")))
    optimizer.save(path)
    assert path.read_bytes() != before


def test_elsewhere_a_file_that_cannot_be_replaced_is_no_reason_to_wait(monkeypatch, tmp_path):
    if sys.platform == "win32":
        pytest.skip("not here")
    monkeypatch.setattr(os, "replace", failing(os.replace, 1, PermissionError(errno.EACCES, "no")))
    with pytest.raises(PermissionError):
        files.replace(tmp_path / "a", tmp_path / "b")


def test_windows_waits_for_a_lock_longer_than_ten_seconds(windows, monkeypatch, tmp_path):
    """After these `msvcrt.locking` raises."""
    calls = []
    locking = failing(lambda *arguments: calls.append(arguments), 3, OSError(errno.EDEADLOCK, "deadlock"))
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_LOCK=1))
    with open(tmp_path / "lock", "ab") as file:
        folder.lock(file)
        assert calls == [(file.fileno(), 1, 1)]
        locking = failing(print, 1, OSError(errno.EACCES, "no"))
        monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_LOCK=1))
        with pytest.raises(OSError, match="no"):
            folder.lock(file)


def test_on_windows_the_process_that_compiles_is_started_without_a_shell(windows, monkeypatch, tmp_path):
    started = []

    def popen(command, **options):
        started.append(command)
        raise OSError(errno.ENOENT, "not here")

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(OSError, match="not here"):
        background.start()
    assert started[0][0] == sys.executable


@pytest.mark.parametrize(
    ("made_for", "is_x86", "is_arm"), [("win-amd64", True, False), ("win-arm64", False, True)]
)
def test_python_for_x86_on_windows_for_arm_gets_x86_code(windows, monkeypatch, made_for, is_x86, is_arm):
    monkeypatch.setattr("platform.machine", lambda: "ARM64")
    monkeypatch.setattr("sysconfig.get_platform", lambda: made_for)
    machine.machine.cache_clear()
    try:
        assert (machine.is_x86(), machine.is_arm()) == (is_x86, is_arm)
    finally:
        machine.machine.cache_clear()


def test_threads_let_others_go_on_windows_too(windows, monkeypatch):
    switch = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1)
    libraries = {"kernel32": SimpleNamespace(SwitchToThread=switch)}
    monkeypatch.setattr(ctypes, "WinDLL", libraries.__getitem__, raising=False)
    assert threads.wait_address() == ctypes.cast(switch, ctypes.c_void_p).value


@pytest.mark.parametrize("encoding", ["cp932", "cp1252"])
def test_commands_write_in_the_encodings_of_windows(encoding, tmp_path):
    """There files and pipes have these; the guide's formulas have signs that they lack."""
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.stdout.errors)")
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding, "FASTOPT_COMPILE": "never"}
    written = [
        subprocess.run(
            [sys.executable, "-m", "fastopt", *arguments],
            cwd=PACKAGE.parent, env=environment, capture_output=True, encoding=encoding, check=True,
        ).stdout
        for arguments in (["guide", "schedules"], ["run", str(script)])
    ]  # fmt: skip
    assert "?" in written[0]
    assert written[1].startswith("strict")
