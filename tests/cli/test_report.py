"""`python scripts/report.py` on folders that `train.py` wrote, and on other folders."""

import subprocess
import sys

import pytest
from tests.cli.conftest import ROOT
from tests.reporting.report_folders import grid, write_run, write_sweep


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give the folder of a run"),
        (("nowhere",), "nowhere: is not a readable folder (No such file or directory)"),
        (("n" * 300,), "n: is not a readable folder (File name too long)"),
        (("run", "out=" + "n" * 300), "n: cannot be written (File name too long)"),
        (("run", "out=a.html", "out=b.html"), "out: is given twice"),
        (("empty",), "empty: neither a run's folder"),
        (("run", "format=text"), "format: no such key"),
        (("run", "outs=x.html"), "outs: no such key (did you mean out?)"),
        (("run", "out=run"), "out=run: is a folder"),
        (("run", "out=no/where.html"), "the folder no does not exist"),
        (("run", "out=run/metrics.csv"), "is not a report; nothing is overwritten"),
        (("run", "nowhere"), "nowhere: is not a readable folder"),
        (("run", "./run/../run"), "run: is given twice"),
    ],
)
def test_a_mistake_is_one_line(command_here, tmp_path, arguments, says):
    write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    found = command_here("scripts/report.py", *arguments)
    assert found.returncode == 1
    assert found.stdout == ""
    assert len(found.stderr.splitlines()) == 1
    assert says in found.stderr
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_mistake_is_reported_before_torch_is_imported(tmp_path):
    code = f"""import runpy, sys
sys.argv = ['report.py', 'nowhere']
try:
    runpy.run_path({str(ROOT / "scripts" / "report.py")!r}, run_name='__main__')
finally:
    print({{'torch', 'lightning', 'matplotlib'}} & set(sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 1
    assert found.stdout == "set()\n"


def test_a_report_needs_neither_torch_nor_lightning(tmp_path):
    folder = write_run(tmp_path / "run")
    code = "import sys; from pathlib import Path; from backhand.reporting.report import write_report; "
    code += f"write_report([Path({str(folder)!r})], Path('out.html')); "
    code += "print({'torch', 'lightning'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"


def test_a_run_a_sweep_and_several_each_give_one_file(command, tmp_path):
    write_run(tmp_path / "lr=0.1")
    write_sweep(tmp_path / "sweep", grid(optimizer__lr=[0.1, 0.3], seed=[0, 1]), [0.1, 0.2, 0.3, None])
    for arguments, out in (
        (("lr=0.1",), "lr=0.1/report.html"),
        (("sweep",), "sweep/report.html"),
        (("lr=0.1", "sweep"), "report.html"),
        (("sweep", "out=other.html"), "other.html"),
    ):
        found = command("scripts/report.py", *arguments)
        assert (found.returncode, found.stdout, found.stderr) == (0, f"{out}\n", "")
        assert (tmp_path / out).read_text().startswith("<!DOCTYPE html>")


def test_two_sweeps_are_compared_on_the_terminal(command, tmp_path):
    for name, values in (("[red]a", [0.3, 0.3, 0.4]), ("b", [0.2, 0.1, 0.4]), ("c", [None, 0.1, None])):
        write_sweep(tmp_path / name, grid(seed=[0, 1, 2]), values)
    found = command("scripts/report.py", "[red]a", "b", COLUMNS="100")
    assert (found.returncode, found.stderr) == (0, "")
    lines = found.stdout.splitlines()
    assert lines[0].strip() == "a = [red]a, b = b"
    assert lines[-1] == "report.html"
    (loss,) = [line.replace("│", " ").split() for line in lines if "val/loss" in line]
    assert loss[:6] == ["val/loss", "3", "0", "0.3333", "0.2333", "-0.1"]
    found = command("scripts/report.py", "b", "c", COLUMNS="100")
    assert found.stdout.splitlines() == [
        "c: 2 of 3 runs failed and are not averaged",
        "b and c: no paired difference, because they have fewer than two seeds in common",
        "report.html",
    ]


@pytest.mark.slow
def test_the_folders_of_real_runs_have_reports(command, tmp_path):
    quick = ("trainer.max_epochs=3", "logger=csv", "callbacks.progress_bar=false", "trainer=cpu")
    assert command("train.py", *quick, "hydra.run.dir=run").returncode == 0
    several = ("seed=0,1", "optimizer.lr=0.03,0.1", "hydra/launcher=population", "hydra.sweep.dir=sweep")
    assert command("train.py", "-m", *quick, *several).returncode == 0
    for arguments in (("run",), ("sweep",), ("run", "sweep")):
        assert command("scripts/report.py", *arguments).returncode == 0
    run, sweep = ((tmp_path / name / "report.html").read_text() for name in ("run", "sweep"))
    assert "What is missing here" not in run
    assert "<dt>test/acc</dt>" in run
    assert "4 finished" in sweep
    assert "best mean val/loss" in sweep
