"""How the parts may depend on each other, read from the code's own imports."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "backhand"
# Each package and what it may import; `calculus` is torch alone.
ALLOWED = {
    "calculus": {"calculus"},
    "config": {"calculus", "config"},
    "data": {"calculus", "config", "data"},
    "reporting": {"calculus", "config", "data", "reporting"},
    "checking": {"calculus", "config", "reporting", "checking"},
    "training": {"calculus", "config", "data", "reporting", "checking", "training"},
    "sweeps": {"calculus", "config", "data", "reporting", "checking", "training", "sweeps"},
    "benchmarks": {"calculus", "config", "data", "training", "sweeps", "benchmarks"},
}
FOREIGN_TO_CALCULUS = {"lightning", "hydra", "omegaconf", "wandb", "torchmetrics", "sklearn", "numpy", "rich"}


def imports(file: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", sorted(SOURCE.rglob("*.py")), ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_run_one_way(file):
    package = file.relative_to(SOURCE).parts[0]
    if package == "__init__.py":
        return
    for name in imports(file):
        if name.startswith("backhand.") and name != "backhand.__version__":
            part = name.removeprefix("backhand.")
            assert any(part == allowed or part.startswith(f"{allowed}.") for allowed in ALLOWED[package]), name


@pytest.mark.parametrize("file", sorted((SOURCE / "calculus").glob("*.py")), ids=lambda file: file.name)
def test_the_calculus_is_torch_and_nothing_else(file):
    assert not {name.partition(".")[0] for name in imports(file)} & FOREIGN_TO_CALCULUS


@pytest.mark.parametrize("file", [SOURCE / "calculus" / name for name in ("activations.py", "losses.py", "choices.py")])
def test_the_tables_of_names_import_no_torch(file):
    assert "torch" not in {name.partition(".")[0] for name in imports(file, top_level_only=True)}
