"""What a sweep says of its jobs when they have run, and what it leaves."""

import csv
from types import SimpleNamespace

import pytest
import submitit
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from backhand.errors import UserError
from backhand.reporting.result import Result, write_result
from backhand.sweeps.slurm import submit
from backhand.sweeps.summary import summarise
from backhand.sweeps.sweep import JobOutcome, Sweep, _raised


def outcome(number, *overrides, status="finished", value=0.5, error=None, objective="val/loss", **record):
    record = {
        "status": status,
        "objective": {"name": objective, "value": value},
        "metrics": {"val/loss": value},
        "error": error,
    } | record
    return JobOutcome(number, overrides, None, record)


@pytest.fixture
def summary(tmp_path, capsys, monkeypatch):
    """Sum up outcomes; returns what is printed, and the rows of sweep.csv."""
    monkeypatch.setenv("COLUMNS", "120")

    def sum_up(*outcomes, names=("val/loss",), max_failures=None, top=10):
        config = OmegaConf.create({"report": False, "sweep": {"top": top, "max_failures": max_failures}})
        sweep = SimpleNamespace(outcomes={each.number: each for each in outcomes}, folder=tmp_path, config=config)
        summarise(sweep, names)
        with (tmp_path / "sweep.csv").open(newline="") as file:
            return capsys.readouterr().out, list(csv.DictReader(file))

    return sum_up


def test_jobs_without_settings_or_with_one_setting_are_a_table(summary, tmp_path):
    out, rows = summary(outcome(0))
    assert "the best 1 of 1" in out
    assert rows == [
        {"job": "0", "status": "finished", "best val/loss": "0.5", "val/loss": "0.5", "seconds": "", "error": ""}
    ]
    _, rows = summary(outcome(0, "data=wine", "seed=1", seconds=2.5), outcome(1, "data=wine", "seed=2", "name==x"))
    assert [(row["seed"], row["name"], row["seconds"]) for row in rows] == [("1", "", "2.5"), ("2", "'=x", "")]
    assert "data" not in rows[0]
    assert (tmp_path / "sweep.png").exists()


@pytest.mark.parametrize(("name", "best"), [("val/loss", ["1", "3"]), ("val/acc", ["2", "0"])])
def test_the_best_come_first_and_of_equal_ones_the_first(summary, name, best):
    made = [outcome(n, f"seed={n}", value=v, objective=name) for n, v in enumerate((0.5, 0.25, 0.75, 0.25, None, 0.5))]
    made.append(outcome(6, "seed=6", status="diverged", value=0.1, objective=name, error="the loss is infinite"))
    out, _ = summary(*made, names=[name], top=2)
    lines = [line.strip("│ ").split() for line in out.splitlines() if line.startswith("│")]
    assert [line[0] for line in lines] == best
    assert "1 of 7 failed:\n  job 6 (seed=6) diverged: the loss is infinite" in out


def test_several_objectives_are_of_the_best_epoch_and_of_jobs_that_have_all(summary):
    made = [
        outcome(0, "seed=0", best={"val/acc": 0.5}, parameters=7),
        outcome(1, "seed=1", best={"val/acc": 0.75}, parameters=9),
        outcome(2, "seed=2", best={"val/acc": None}, parameters=9),
        outcome(3, "seed=3", status="diverged", best={"val/acc": 0.9}, parameters=9, error="diverged"),
    ]
    out, rows = summary(*made, names=["val/acc", "parameters"])
    assert "the best 2 of 4" in out
    assert [row["best val/acc"] for row in rows] == ["0.5", "0.75", "", ""]
    assert [row["best parameters"] for row in rows] == ["7.0", "9.0", "9.0", ""]


@pytest.mark.parametrize(
    ("allowed", "failed", "fails"), [(0, 1, True), (1, 1, False), (None, 1, False), (None, 2, True)]
)
def test_too_many_failures_or_nothing_else_is_exit_status_1(summary, allowed, failed, fails):
    made = [outcome(n, f"seed={n}", status="failed", value=None, error="no") for n in range(failed)]
    made += [outcome(n, f"seed={n}") for n in range(failed, 2)]
    if fails:
        with pytest.raises(SystemExit):
            summary(*made, max_failures=allowed)
    else:
        summary(*made, max_failures=allowed)


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (None, "ended without a result"),
        (UserError("data.path=x: no such file"), "data.path=x: no such file"),
        (ValueError("first\nsecond"), "ValueError: first"),
        (KeyError(), "KeyError: ended without a result"),
    ],
)
def test_a_job_that_left_no_result_says_why(jobs, raised, error):
    (job,), found = jobs([["seed=0"]]), {}
    Sweep.record(SimpleNamespace(outcomes=found), job, raised)
    assert (found[0].error, found[0].record["status"], found[0].value) == (error, "failed", None)


def test_a_job_that_was_interrupted_has_failed_in_a_sweep_and_keeps_what_it_left(jobs):
    (job,), found = jobs([["seed=0"]]), {}
    job.folder.mkdir(parents=True)
    write_result(Result("interrupted", {"name": "val/loss", "value": 0.5}, {"val/loss": 0.5}), job.config, job.folder)
    Sweep.record(SimpleNamespace(outcomes=found), job, UserError("no more time"))
    assert (found[0].error, found[0].record["status"], found[0].value) == ("no more time", "interrupted", None)
    assert found[0].record["metrics"] == {"val/loss": 0.5}
    assert found[0].values(["val/loss"]) == [None]


def test_a_job_that_slurm_loses_costs_the_others_nothing(jobs, monkeypatch, capsys):
    made, told, params = jobs([["seed=0"], ["seed=1"]]), [], {}
    done = JobReturn(status=JobStatus.COMPLETED)
    done.return_value = 0.5

    def lost():
        raise submitit.core.utils.UncompletedJobError("Job 7_1 is gone\nits log:")

    elements = [SimpleNamespace(job_id=f"7_{n}", results=each) for n, each in enumerate((lambda: [[done]], lost))]
    executor = SimpleNamespace(update_parameters=lambda **each: params.update(each), map_array=lambda *each: elements)
    monkeypatch.setattr(submitit, "AutoExecutor", lambda **each: executor)
    launcher = SimpleNamespace(
        population=False,
        params={"submitit_folder": "x", "max_num_timeout": 1, "nodes": 1, "partition": "gpu", "qos": None},
    )
    returned = submit(launcher, made, told.append)
    assert (params, told) == ({"nodes": 1, "slurm_partition": "gpu"}, ["Slurm job 7"])
    assert _raised(returned[0]) is None
    assert str(_raised(returned[1])).startswith("Job 7_1 is gone")
    assert capsys.readouterr().err == ""
