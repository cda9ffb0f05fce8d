"""The tutorial's notebook is up to date and runs."""

import os
import runpy
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)


def test_the_notebook_is_generated_from_tutorial_md():
    make = runpy.run_path(str(ROOT / "docs" / "make_notebook.py"))["notebook"]
    assert make((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")) == NOTEBOOK


@pytest.mark.slow
def test_the_notebook_runs_and_prints_the_lines_of_tutorial_md(tmp_path, monkeypatch):
    for name in ("train.py", "scripts", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "start").mkdir()  # its parent is the project's folder, as that of docs/ is
    book = nbformat.from_dict(NOTEBOOK)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path / "start")}}).execute()
    shown = "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", ()))
    for line in (
        "Wrong: δ_I (delta_I): the factor g′(z_I) is missing.",
        "Right, for L = 1/B Σ the loss of each sample.",
        "gradients audited",
        "It is not the gradient.",
        "difference from model.gradient=hand, paired by seed",
    ):
        assert line in shown, shown
