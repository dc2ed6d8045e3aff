"""Build wheel and sdist, check what is in them, and try the wheel in a fresh environment and another folder.

    python .ci/wheel.py [--out FOLDER] [--version VERSION]

It needs the packages build and twine, and runs on Linux, macOS and Windows.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# What is done with the installed package: a compiled step, with the bits of the reference.
STEP = """
import numpy as np
import fastopt
from fastopt import reference

assert {root!r} not in fastopt.__file__, fastopt.__file__
for dtype in ("float32", "float64"):
    params = {{"W": np.linspace(-1, 1, 12, dtype=dtype).reshape(3, 4), "b": np.ones(4, dtype)}}
    expected = {{key: value.copy() for key, value in params.items()}}
    ours, plain = fastopt.Adam(0.1), reference.Adam(0.1)
    for step in range(3):
        grads = {{key: np.sin(value + step) for key, value in params.items()}}
        ours.update(params, grads)
        plain.update(expected, grads)
    assert ours.compiled, "the step wasn't compiled"
    assert all((params[key] == expected[key]).all() for key in params), "other bits than the reference's"
"""


def main() -> None:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="where wheel and sdist are kept; by default nowhere")
    parser.add_argument("--version", help="the version that they must have")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastopt-wheel-") as folder:
        out = options.out or Path(folder, "dist")
        if out.is_dir() and any(out.iterdir()):
            sys.exit(f"{out} must be empty, for what is in it would be checked, too")
        # As GitHub names the repository, whose address the links of README get: see readme.py.
        address = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "fastopt/fastopt"}
        run(sys.executable, "-m", "build", "--outdir", str(out), str(ROOT), env=address | os.environ)
        (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
        run(sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
        check_wheel(wheel, options.version)
        check_sdist(sdist)
        try_wheel(wheel.resolve(), Path(folder))


def run(*command: str, **options: object) -> str:
    """Run a command. Returns what it prints; where it fails, ends with that."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", **options
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(command)} failed with {done.returncode}")
    return done.stdout


def tracked(folder: str) -> set[str]:
    """Return the files of a folder that git knows, those that are new but not ignored among them."""
    listed = run("git", "-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard", folder)
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def require(condition: object, problem: str) -> None:
    """End with a problem unless a condition holds."""
    if not condition:
        sys.exit(f"wheel or sdist: {problem}")


def check_wheel(wheel: Path, version: str | None) -> None:
    """Check that the wheel has each file of the package and no more, and the project's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        info = metadata_name.removesuffix("METADATA")
        package = {name for name in names if not name.startswith(info)}
        odd = sorted(package ^ tracked("fastopt"))
        require(not odd, f"the package and git's folder fastopt differ in {odd}")
        require("fastopt/py.typed" in package, "py.typed is missing")
        pages = [name for name in package if re.fullmatch(r"fastopt/guide/.*\.md", name)]
        for page in pages:
            text = archive.read(page).decode()
            pictures = {f"fastopt/guide/{name}" for name in re.findall(r"!\[[^]]*\]\(([^):]+)\)", text)}
            require(pictures <= names, f"{page} shows {sorted(pictures - names)}, which aren't there")
        require(pages, "no page of the guide is in it")
        licence = archive.read(f"{info}licenses/LICENSE")
        require(licence == (ROOT / "LICENSE").read_bytes(), "the licence isn't that of the project")
        metadata = message_from_bytes(archive.read(metadata_name))
    links = re.findall(r"\]\(([^)#]+)", metadata.get_payload(decode=True).decode())
    relative = [link for link in links if not link.startswith("https://")]
    require(links and not relative, f"links of README mean nothing on a package index: {relative}")
    own = re.search(r'^__version__ = "(.+)"$', (ROOT / "fastopt/__init__.py").read_text("utf-8"), re.M)
    require(own and metadata["Version"] == own[1], f"its version is {metadata['Version']}")
    require(version in (None, metadata["Version"]), f"its version is {metadata['Version']}, not {version}")
    heading = rf"^## {re.escape(metadata['Version'])}\b"
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    require(re.search(heading, changes, re.M), f"CHANGELOG.md says nothing of {metadata['Version']}")
    require(metadata["License-Expression"] == PROJECT["license"], "its metadata names no licence")
    require(metadata["Requires-Python"] == PROJECT["requires-python"], "its metadata has other Pythons")
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    require(sorted(needed) == sorted(PROJECT["dependencies"]), f"it requires {needed}")


def check_sdist(sdist: Path) -> None:
    """Check that the sdist has what git has, and no more: who builds from it can run the tests."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    odd = sorted((names ^ tracked(".")) - {"PKG-INFO"})
    require(not odd, f"the sdist and git differ in {odd}")


def try_wheel(wheel: Path, folder: Path) -> None:
    """Install the wheel into a fresh environment; use it from a folder in which no source is."""
    run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
    scripts = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / ("python.exe" if os.name == "nt" else "python"))
    # This Python's pip, as installing another one would take longer than all else that is installed.
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-compile", "--only-binary=:all:", str(wheel))
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    hidden = ("PYTHONPATH", "FASTOPT_CACHE_DIR", "FASTOPT_COMPILE", "NUMBA_DISABLE_JIT")
    variables = {name: value for name, value in os.environ.items() if name not in hidden}
    variables |= {"FASTOPT_CACHE_DIR": str(folder / "cache"), "FASTOPT_COMPILE": "now", "PYTHONUTF8": "1"}

    def there(*command: str) -> str:
        return run(*command, cwd=elsewhere, env=variables)

    version = there(python, "-m", "fastopt", "--version").split()[-1]
    require(f"-{version}-" in wheel.name, f"python -m fastopt --version says {version}")
    rules = there(python, "-m", "fastopt", "rules")
    require("RMSprop" in rules, f"python -m fastopt rules says {rules}")
    for name in PROJECT.get("scripts", {}):
        said = there(str(scripts / name), "--version").split()[-1]
        require(said == version, f"{name} --version says {said}")
    there(python, "-c", STEP.format(root=str(ROOT)))
    require(any((folder / "cache").glob("*.code")), "the compiled step isn't in the cache")
    print(f"{wheel.name}: built, checked, and tried in another folder")


if __name__ == "__main__":
    main()
