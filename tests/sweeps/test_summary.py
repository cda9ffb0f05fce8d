"""The summary of a sweep: the tables on the terminal, sweep.csv, and the exit status."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import submitit
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from scipy import stats

from backhand.errors import UserError
from backhand.reporting.result import Result, write_result
from backhand.reporting.terminal import format_metric
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


def test_a_setting_is_shown_as_it_was_written():
    r"""Hydra gives a job `mine.py\\:f` for `mine.py:f`."""
    settings = outcome(0, r"model.gradient=mine.py\:f", "model.hidden=[32,16]").settings
    assert settings == {"model.gradient": "mine.py:f", "model.hidden": "[32,16]"}


@pytest.fixture
def summary(tmp_path, capsys, monkeypatch):
    """Write the summary of outcomes; returns the output and the rows of sweep.csv."""
    monkeypatch.setenv("COLUMNS", "120")

    def sum_up(*outcomes, names=("val/loss",), max_failures=None, top=10):
        config = OmegaConf.create({"report": False, "sweep": {"top": top, "max_failures": max_failures}})
        sweep = SimpleNamespace(outcomes={each.number: each for each in outcomes}, folder=tmp_path, config=config)
        summarise(sweep, names)
        with (tmp_path / "sweep.csv").open(newline="") as file:
            return capsys.readouterr().out, list(csv.DictReader(file))

    return sum_up


def lines(out):
    """The values of the table on the terminal, row by row."""
    return [
        [value.strip() for value in line.strip("│").split("│")] for line in out.splitlines() if line.startswith("│")
    ]


def test_jobs_without_settings_or_with_one_setting_make_a_table(summary, tmp_path):
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
def test_the_best_jobs_come_first_and_equal_ones_keep_their_order(summary, name, best):
    made = [outcome(n, f"name={n}", value=v, objective=name) for n, v in enumerate((0.5, 0.25, 0.75, 0.25, None, 0.5))]
    made.append(outcome(6, "name=6", status="diverged", value=0.1, objective=name, error="the loss is infinite"))
    out, _ = summary(*made, names=[name], top=2)
    assert [line[0] for line in lines(out)] == best
    assert "1 of 7 failed:\n  job 6 (name=6) diverged: the loss is infinite" in out


def test_several_objectives_are_those_of_the_best_epoch_and_only_of_jobs_that_have_all(summary):
    made = [
        outcome(0, "name=0", best={"val/acc": 0.5}, parameters=7),
        outcome(1, "name=1", best={"val/acc": 0.75}, parameters=9),
        outcome(2, "name=2", best={"val/acc": None}, parameters=9),
        outcome(3, "name=3", status="diverged", best={"val/acc": 0.9}, parameters=9, error="diverged"),
    ]
    out, rows = summary(*made, names=["val/acc", "parameters"])
    assert "the best 2 of 4" in out
    assert [row["best val/acc"] for row in rows] == ["0.5", "0.75", "", ""]
    assert [row["best parameters"] for row in rows] == ["7.0", "9.0", "9.0", ""]


def test_over_seeds_the_table_has_means_with_intervals_and_no_single_run(summary):
    found = {"tanh": np.linspace(0.3, 0.4, 10), "relu": np.array([0.1, *[0.5] * 9])}  # relu has the luckiest run of all
    made = [
        outcome(len(values) * place + seed, f"model.hidden_activation={name}", f"seed={seed}", value=value)
        for place, (name, values) in enumerate(found.items())
        for seed, value in enumerate(values)
    ]
    out, rows = summary(*made)
    assert "mean ± 95 % interval: the best 2 of 2" in out
    *means, difference = lines(out)
    by_seed = found["relu"] - found["tanh"]
    half = stats.ttest_1samp(by_seed, 0).confidence_interval(0.95).high - by_seed.mean()
    assert difference == ["relu", "10", f"{by_seed.mean():.4g} ± {half:.4g}"]
    assert "difference from model.hidden_activation=tanh, paired by seed: mean ± 95 % interval" in " ".join(out.split())
    for line, (name, values) in zip(means, found.items(), strict=True):
        half = stats.ttest_1samp(values, 0).confidence_interval(0.95).high - values.mean()
        assert line == [name, "10", "0", f"{values.mean():.4g} ± {half:.4g}"]
    assert len(rows) == 20  # sweep.csv has every run
    out, _ = summary(*made, top=1)
    assert [line[0] for line in lines(out)] == ["tanh", "relu"]  # the best, and how the best of the others differs


def test_a_table_wider_than_the_terminal_has_one_line_per_row_and_complete_numbers(summary, monkeypatch):
    made = [
        outcome(n, "model.hidden_activation=tanh", f"seed={n}", f"name=[{n % 2}]", value=0.123456) for n in range(4)
    ]
    monkeypatch.setenv("COLUMNS", "30")
    out, _ = summary(*made)
    rows = [line for line in out.splitlines() if line.startswith("- ")]
    assert rows == [f"- name [{n}], seeds 2, failed 0, val/loss 0.1235 ± 0" for n in range(2)]


@pytest.mark.parametrize(
    ("tested", "heads"),
    [({"test/loss": 0.5, "test/acc": 0.9}, ["test/acc"]), ({"test/r2": 0.5, "test/mae": 2.0}, ["test/r2", "test/mae"])],
)
@pytest.mark.parametrize("key", ["seed", "+seed", "name"])
def test_the_table_has_the_accuracy_or_both_metrics_of_a_regression(summary, tested, heads, key):
    out, _ = summary(*(outcome(n, f"{key}={n}", metrics=tested) for n in range(3)))
    (head,) = [line for line in out.splitlines() if line.startswith("┃")]
    before = ["job", "name"] if key == "name" else ["seeds", "failed"]
    assert head.strip("┃").replace("┃", " ").split() == [*before, "val/loss", *heads]
    for name, text in zip(heads, lines(out)[0][3:], strict=True):
        metric = name.removeprefix("test/")
        spread = "" if key == "name" else f" ± {format_metric(metric, 0.0)}"
        assert text == f"{format_metric(metric, tested[name])}{spread}"


def test_failed_and_diverged_runs_are_counted_beside_the_mean_of_the_others(summary):
    made = [outcome(n, "optimizer.lr=1", f"seed={n}", metrics={"test/acc": 0.5}) for n in range(2)]
    made.append(
        outcome(2, "optimizer.lr=1", "seed=2", status="diverged", value=0.0, error="x", metrics={"test/acc": 0})
    )
    made.append(outcome(3, "optimizer.lr=1", "seed=3", status="failed", value=None, error="x", metrics={}))
    made += [outcome(4 + n, "optimizer.lr=2", f"seed={n}", status="failed", value=None, error="x") for n in range(2)]
    out, _ = summary(*made, max_failures=None)
    assert lines(out) == [["1", "2", "2 of 4", "0.5 ± 0", "50.00% ± 0.00%"], ["2", "0", "2 of 2", "", ""]]


def test_a_difference_that_is_rounded_to_zero_has_no_minus(summary):
    made = [outcome(n, "optimizer.lr=1", f"seed={n}", metrics={"test/acc": 0.5}) for n in range(2)]
    made += [outcome(2 + n, "optimizer.lr=2", f"seed={n}", metrics={"test/acc": 0.5 - 1e-6}) for n in range(2)]
    out, _ = summary(*made)
    assert lines(out)[-1] == ["2", "2", "0 ± 0", "0.00% ± 0.00%"]
    assert format_metric("loss", -0.0) == "0"
    assert format_metric("loss", -1e-9) == "-1e-09"


def test_the_table_file_has_the_angle_of_the_runs_that_have_one(summary):
    audits = [{"times": 4, "angle": 43.5}, {"times": 4, "worst": 1e-7, "parameter": "x", "torch": None}, None]
    _, rows = summary(*(outcome(n, f"seed={n}", audit=audit) for n, audit in enumerate(audits)))
    assert [row["angle"] for row in rows] == ["43.5", "", ""]
    _, rows = summary(*(outcome(n, f"seed={n}", audit=audits[1]) for n in range(2)))
    assert "angle" not in rows[0]


def test_without_repeated_settings_there_are_no_means(summary):
    out, _ = summary(*(outcome(n, f"seed={n}", f"optimizer.lr={n + 1}") for n in range(3)))
    assert "the best 3 of 3" in out
    assert "mean" not in out


@pytest.mark.parametrize(
    ("allowed", "failed", "fails"), [(0, 1, True), (1, 1, False), (None, 1, False), (None, 2, True)]
)
def test_too_many_failures_or_only_failures_give_exit_status_1(summary, allowed, failed, fails):
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
def test_a_job_without_a_result_says_why(jobs, raised, error):
    (job,), found = jobs([["seed=0"]]), {}
    Sweep.record(SimpleNamespace(outcomes=found), job, raised)
    assert (found[0].error, found[0].record["status"], found[0].value) == (error, "failed", None)


def test_an_interrupted_job_counts_as_failed_in_a_sweep_and_keeps_its_result(jobs):
    (job,), found = jobs([["seed=0"]]), {}
    job.folder.mkdir(parents=True)
    write_result(Result("interrupted", {"name": "val/loss", "value": 0.5}, {"val/loss": 0.5}), job.config, job.folder)
    Sweep.record(SimpleNamespace(outcomes=found), job, UserError("no more time"))
    assert (found[0].error, found[0].record["status"], found[0].value) == ("no more time", "interrupted", None)
    assert found[0].record["metrics"] == {"val/loss": 0.5}
    assert found[0].values(["val/loss"]) == [None]


def test_a_job_that_slurm_loses_does_not_affect_the_others(jobs, monkeypatch, capsys):
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
