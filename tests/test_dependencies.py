"""The declared dependencies agree with the imports and with the requirements of the installed packages."""

import ast
import functools
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Dependencies without an import: who uses them, and the file and text in the project that show it.
NOT_IMPORTED = {
    "hydra-joblib-launcher": (
        "Hydra finds it by its name on the command line",
        "docs/sweeps.md",
        "hydra/launcher=joblib",
    ),
    "tensorboard": ("Lightning's logger imports it", "src/backhand/reporting/loggers.py", "TensorBoardLogger("),
    "pytest-xdist": ("pytest finds it", "pyproject.toml", "-n auto"),
    "ipykernel": ("Jupyter runs a notebook's cells in it", "docs/make_notebook.py", '"name": "python3"'),
    "playwright": ("imported where it is there", "tests/reporting/test_report_browser.py", 'importorskip("playwright'),
    "ruff": ("a command", "Makefile", "/ruff check"),
    "mypy": ("a command", "Makefile", "/mypy"),
}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


DECLARED, DEV = names(PROJECT["dependencies"]), names(EXTRAS["dev"])
OPTIONAL = names([each for extra, needs in EXTRAS.items() if extra != "dev" for each in needs])


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def imported(file: Path, at_once: bool = False) -> Iterator[str]:
    """The modules that a file imports; with `at_once`, only those imported together with the file."""
    todo: list[ast.AST] = [parsed(file)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_once and isinstance(node, ast.FunctionDef | ast.If | ast.Try):
            continue  # `if TYPE_CHECKING`, and imports inside functions
        else:
            todo.extend(ast.iter_child_nodes(node))


DISTRIBUTIONS = packages_distributions()


@functools.cache
def providers(module: str) -> set[str]:
    """The installed distributions that provide a module; the module's own name if there is none."""
    top, _, rest = module.partition(".")
    found = {canonicalize_name(each) for each in DISTRIBUTIONS.get(top, [top])}
    if len(found) > 1:  # a namespace package, such as Hydra's plugins: look for the file
        part = f"{top}/{rest.partition('.')[0]}"
        owners = {each for each in found if any(str(file).startswith(part) for file in distribution(each).files or ())}
        found = owners or found
    return found


@functools.cache
def third_party(*folders: str, at_once: bool = False) -> dict[str, set[str]]:
    """The third-party modules that the files in the folders import, and the importing files."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        path = ROOT / folder
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            if "brought" in file.parts:
                continue  # programs for the mistake finder, which are never imported
            for module in imported(file, at_once):
                top, _, rest = module.partition(".")
                own = top in OWN or (ROOT / "src" / top / f"{rest.partition('.')[0]}.py").exists()  # our Hydra plugin
                if not own and top not in sys.stdlib_module_names:
                    found.setdefault(module, set()).add(str(file.relative_to(ROOT)))
    return found


PROGRAM = ("src", "scripts", "train.py", "examples")
OWN = {"backhand", "tests", *(file.stem for file in (ROOT / "benchmarks").glob("*.py"))}


@pytest.mark.parametrize(
    ("folders", "at_once", "allowed"),
    [
        pytest.param(PROGRAM, True, DECLARED, id="the program, as it starts"),
        pytest.param(PROGRAM, False, DECLARED | OPTIONAL, id="the program"),
        pytest.param(("benchmarks",), False, DECLARED | OPTIONAL, id="the benchmarks"),
        pytest.param(("tests",), False, DECLARED | OPTIONAL | DEV, id="the tests"),
    ],
)
def test_every_import_is_declared(folders, at_once, allowed):
    undeclared = {m: files for m, files in third_party(*folders, at_once=at_once).items() if not providers(m) & allowed}
    assert not undeclared


def test_every_declared_dependency_is_used():
    by_program = {name for module in third_party(*PROGRAM) for name in providers(module)}
    by_benchmarks = {name for module in third_party("benchmarks") for name in providers(module)}
    by_tests = {name for module in third_party("tests") for name in providers(module)}
    assert DECLARED - by_program - NOT_IMPORTED.keys() == set()
    assert OPTIONAL - by_program - by_benchmarks - NOT_IMPORTED.keys() == set()
    assert DEV - by_tests - OPTIONAL - NOT_IMPORTED.keys() == set()


@pytest.mark.parametrize("name", NOT_IMPORTED)
def test_dependencies_without_an_import_are_still_used(name):
    reason, file, text = NOT_IMPORTED[name]
    assert name in DECLARED | OPTIONAL | DEV
    assert text in (ROOT / file).read_text(), f"{name}: {reason}; not any more?"
    assert name not in {each for module in third_party(*PROGRAM, "tests") for each in providers(module)}


def needed(requirements: list[str]) -> tuple[set[str], set[str]]:
    """All direct and indirect requirements: those that are installed and those that are not."""
    seen: set[tuple[str, frozenset[str]]] = set()
    missing = set()
    todo = [Requirement(each) for each in requirements]
    while todo:
        one = todo.pop()
        key = canonicalize_name(one.name), frozenset(one.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            theirs = [Requirement(each) for each in distribution(one.name).requires or ()]
        except PackageNotFoundError:
            missing.add(key[0])
            continue
        extras = one.extras or {""}
        todo.extend(
            each for each in theirs if each.marker is None or any(each.marker.evaluate({"extra": x}) for x in extras)
        )
    return {name for name, _ in seen} - missing, missing


def constraints() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): number for name, _, number in (line.partition("==") for line in lines)}


def test_constraints_are_only_names_and_versions():
    first, *lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert first.startswith("# ")
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line)] == []
    assert len(constraints()) == len(lines)


@pytest.mark.skipif(
    (sys.platform, platform.machine(), sys.version_info[:2]) != ("linux", "x86_64", (3, 11)),
    reason="constraints.txt is of Linux, x86-64 and Python 3.11",
)
def test_constraints_are_exactly_the_installed_requirements():
    installed, missing = needed([*PROJECT["dependencies"], *(each for needs in EXTRAS.values() for each in needs)])
    constrained = set(constraints())
    assert (installed | missing) - constrained == set()
    superfluous = constrained - installed - missing
    assert not superfluous if not missing else not {each for each in superfluous if is_installed(each)}


def is_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


@pytest.mark.slow
def test_the_calculus_needs_only_torch(tmp_path):
    """Run in a Python with only torch, its requirements and numpy."""
    bare = tmp_path / "packages"
    bare.mkdir()
    installed, _ = needed(["torch", "numpy"])
    for name in installed:
        for top in {file.parts[0] for file in distribution(name).files or () if file.parts[0] not in ("..", "/")}:
            source = Path(str(distribution(name).locate_file(top)))
            if not (bare / top).exists() and source.exists():
                (bare / top).symlink_to(source)
    code = f"""
import sys
sys.path += [{str(bare)!r}, {str(ROOT / "src")!r}]
for absent in ("lightning", "hydra", "omegaconf", "wandb"):
    try:
        __import__(absent)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{{absent}} is there")

import torch
from backhand import MLP

torch.manual_seed(0)
model = MLP([5, 4, 3])
x, y = torch.randn(8, 5), torch.randint(3, (8,))
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
losses = []
for step in range(3):
    loss = model.loss(x, y, "cross_entropy")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[0] > losses[1] > losses[2], losses

exact = MLP([5, 4, 3], dtype=torch.float64)
assert torch.autograd.gradcheck(lambda x: exact.loss(x, y, "cross_entropy"), x.double().requires_grad_())
print("trained and checked")
"""
    run = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout == "trained and checked\n", run.stderr
