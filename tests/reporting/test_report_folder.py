"""Reading folders that may be incomplete, damaged or malicious: valid parts are read, and gaps are listed."""

import json
import math
import os
import re

import numpy as np
import pandas as pd
import pytest
from tests.reporting.report_folders import grid, write_json, write_run, write_sweep

from backhand.errors import UserError
from backhand.reporting.charts import MOST_EPOCHS, thinned
from backhand.reporting.folder import RunResult, read_folder, read_run, read_sweep
from backhand.reporting.report import render, write_report
from backhand.reporting.result import read_result
from backhand.reporting.sections import build_report


def rendered(folder):
    return render(build_report([folder], folder))


def test_a_complete_run_has_no_gap(tmp_path):
    run = read_run(write_run(tmp_path / "run", epochs=5, overrides=["optimizer.lr=0.1"]))
    assert run.gaps == []
    assert run.status == "finished"
    assert run.settings["model.loss"] == "cross_entropy"  # ${data.loss}
    assert run.settings["model.hidden"] == "[64, 32]"
    assert len(run.epochs["val/loss"]) == 5
    assert sum(map(sum, run.error_analysis.confusion)) > 0
    assert [each["loss"] for each in run.error_analysis.worst] == [6, 5, 4, 3, 2, 1]
    assert len(run.error_analysis.weights) == 16


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3 - 1])


def remove(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def garbage(path):
    path.write_bytes(bytes(range(256)) * 20)


def loop(path):
    path.unlink()
    path.symlink_to(path)


def folder_instead(path):
    path.unlink()
    path.mkdir()


def pipe(path):
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def nested(path):
    path.write_text("[" * 100_000)


def test_a_setting_of_a_sweep_is_read_as_it_was_written(tmp_path):
    settings = [{"model.gradient": rf"mine/rules.py\:{name}", "seed": "0"} for name in ("keep", "drop")]
    sweep = read_sweep(write_sweep(tmp_path / "sweep", settings, [0.1, 0.2]))
    assert sweep.runs["model.gradient"].tolist() == ["mine/rules.py:keep", "mine/rules.py:drop"]


FILES = ("result.json", "metrics.csv", "findings.json", ".hydra/config.yaml", ".hydra/overrides.yaml")


@pytest.mark.parametrize("damage", [cut, remove, empty, garbage, loop, folder_instead, nested])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_listed_and_the_rest_is_reported(tmp_path, name, damage):
    folder = write_run(tmp_path / "run", overrides=["optimizer.lr=0.1", "model.hidden=[64,32]"])
    damage(folder / name)
    run = read_run(folder)
    cut_yaml = damage is cut and name.startswith(".hydra")  # may be whole YAML, with less in it
    assert cut_yaml or any(gap.startswith(f"{name}: ") for gap in run.gaps)
    html = rendered(folder)
    assert all(gap.split(":")[0] in html for gap in run.gaps)
    if name != "metrics.csv":
        assert run.epochs["val/loss"].iloc[-1] > 0
    if name != "result.json":
        assert run.result.metrics["test/acc"] == 0.9741


def test_an_incomplete_line_is_left_out(tmp_path):
    folder = write_run(tmp_path / "run", epochs=10)
    whole = read_run(folder).epochs["val/loss"].tolist()
    text = (folder / "metrics.csv").read_text()
    (folder / "metrics.csv").write_text(text.rstrip()[:-3])
    run = read_run(folder)
    assert run.epochs["val/loss"].tolist() == whole[:-1]
    assert "metrics.csv: ends in the middle of a line, which is left out" in run.gaps


@pytest.mark.parametrize("epoch", ["", "nan", "1e400", "x", "2.5", "-1"])
@pytest.mark.parametrize("line", [3, -1])
def test_a_line_without_an_epoch_is_left_out_and_the_report_is_written(tmp_path, epoch, line):
    folder = write_run(tmp_path / "run")
    lines = (folder / "metrics.csv").read_text().splitlines()
    lines[line] = ",".join([epoch, *lines[line].split(",")[1:]])
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    run = read_run(folder)
    assert len(run.epochs["epoch"]) == 29
    assert "metrics.csv: 1 line left out: no epoch number" in run.gaps
    assert "no epoch number" in rendered(folder)


def test_values_that_are_not_numbers_are_left_out_of_the_charts(tmp_path):
    folder = write_run(tmp_path / "run")
    rows = "0,39,nan,inf,oops,1e999\n1,79,0.5,-inf,0.25,0.1\n2,119,0.4,0.3\n"
    (folder / "metrics.csv").write_text("epoch,step,train/loss,val/loss,val/acc,lr\n" + rows)
    run = read_run(folder)
    assert math.isnan(run.epochs["train/loss"][0])
    assert run.epochs["val/acc"][1] == 0.25
    assert "val/loss" not in run.epochs
    assert "metrics.csv: 1 line left out: not as many fields as the header" in run.gaps
    assert "metrics.csv: 4 values left out: not a number, or impossible for the metric" in run.gaps
    assert "NaN" not in "".join(re.findall('<script type="application/json">(.*?)</script>', rendered(folder)))


def test_entries_of_the_wrong_type_are_listed(tmp_path):
    folder = write_run(tmp_path / "run", confusion=[[1, -1], [2]], scatter={"target": [1, "a"], "prediction": [1, 2]})
    findings = json.loads((folder / "findings.json").read_text())
    findings["worst"] = [3, {"id": 1}, *findings["worst"][:1], {"loss": 1, "picture": "data:text/html,x"}]
    findings["weights"] = ["PHNjcmlwdD4=", findings["weights"][0], None]  # the first is no PNG
    write_json(folder / "findings.json", findings)
    result = {"status": "finished", "metrics": [1], "seconds": "long", "best": {"val/loss": None, "val/acc": 10**400}}
    write_json(folder / "result.json", result | {"steps": True})
    run = read_run(folder)
    assert run.result == RunResult(status="finished")
    wrong = {gap.partition(" is left out")[0] for gap in run.gaps if gap.startswith("result.json")}
    assert wrong == {f"result.json: {key}" for key in ("metrics", "seconds", "steps", "best.val/acc")}
    assert run.error_analysis.confusion is run.error_analysis.scatter is None
    assert [each["picture"] is None for each in run.error_analysis.worst] == [False]
    assert len(run.error_analysis.weights) == 1
    wrong = [gap.partition(" is left out")[0] for gap in run.gaps if gap.startswith("findings.json")]
    entries = ("confusion", "scatter", "worst.0", "worst.1", "worst.3", "weights.0", "weights.2")
    assert set(wrong) == {f"findings.json: {entry}" for entry in entries}
    rendered(folder)


def test_impossible_values_are_listed_and_not_shown(tmp_path):
    folder = write_run(tmp_path / "run")
    record = json.loads((folder / "result.json").read_text())
    record["metrics"]["test/acc"] = 5.0
    write_json(folder / "result.json", record | {"status": "splendid", "parameters": -3, "seconds": -1.5})
    lines = (folder / "metrics.csv").read_text().splitlines()
    place = lines[0].split(",").index("val/acc")
    fields = lines[4].split(",")
    lines[4] = ",".join([*fields[:place], "1.5", *fields[place + 1 :]])
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    run = read_run(folder)
    assert "metrics.csv: 1 value left out: not a number, or impossible for the metric" in run.gaps
    assert math.isnan(run.epochs["val/acc"][3])
    for said in ("status", "parameters", "seconds", "metrics.test/acc"):
        assert any(gap.startswith(f"result.json: {said} is left out") for gap in run.gaps), said
    assert run.status == "no result"
    assert run.result.parameters is run.result.seconds is None
    assert "test/acc" not in run.result.metrics
    assert "500.00%" not in rendered(folder)


def test_a_yaml_file_can_neither_run_code_nor_expand_without_bounds(tmp_path):
    folder = write_run(tmp_path / "run")
    mark = tmp_path / "ran"
    (folder / ".hydra" / "overrides.yaml").write_text(f"!!python/object/apply:os.system ['touch {mark}']")
    bomb = "a0: &a0 {x: 1, y: 2}\n" + "".join(
        f"a{n}: &a{n} {{{', '.join(f'k{k}: *a{n - 1}' for k in range(9))}}}\n" for n in range(1, 15)
    )
    (folder / ".hydra" / "config.yaml").write_text(bomb + "list: &l [*l, *l]\n")
    run = read_run(folder)
    assert not mark.exists()
    assert ".hydra/config.yaml: is not a configuration: it has an alias (*a0)" in run.gaps
    assert len(run.settings) <= 1000
    assert ".hydra/overrides.yaml: is damaged, or empty" in run.gaps


def test_a_setting_that_is_too_long_is_listed(tmp_path):
    run = read_run(write_run(tmp_path / "run", settings={"name": "n" * 10_001}))
    assert ".hydra/config.yaml: is not a configuration: a value has 10001 characters" in run.gaps


@pytest.mark.parametrize("count", [10**400, 1 << 53], ids=["too large for a float", "too large for its digits"])
def test_a_count_that_a_float_cannot_represent_is_left_out(tmp_path, count):
    folder = write_run(tmp_path / "run")
    record = json.loads((folder / "result.json").read_text())
    counts = dict.fromkeys(("parameters", "population", "steps", "epochs"), count)
    write_json(folder / "result.json", record | counts | {"audit": {"times": count, "worst": 1e-7}})
    left_out = {gap.partition(" is left out")[0] for gap in read_run(folder).gaps}
    assert left_out == {f"result.json: {key}" for key in (*counts, "audit.times")}
    rendered(folder)


@pytest.mark.parametrize("name", ["result.json", "metrics.csv", "findings.json", ".hydra"])
def test_no_link_is_followed_out_of_the_folder(tmp_path, name):
    folder, other = write_run(tmp_path / "run"), write_run(tmp_path / "other", settings={"name": "secret"}, value=0.123)
    (folder / name).rename(tmp_path / "aside")
    (folder / name).symlink_to(other / name)
    run = read_run(folder)
    assert any("link out of the folder" in gap for gap in run.gaps)
    assert run.settings.get("name") != "secret"
    assert run.result.objective.value != 0.123


def test_a_pipe_is_not_waited_for(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "result.json").unlink()
    os.mkfifo(folder / "result.json")
    assert "result.json: is not a file" in read_run(folder).gaps


def test_a_job_of_a_sweep_is_not_read_through_a_link_out_of_it(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", grid(seed=[0, 1]), [0.1, 0.2])
    other = write_run(tmp_path / "other", value=0.0001)
    (sweep / "2").symlink_to(other)
    found = read_sweep(sweep)
    assert list(found.ranked["job"]) == [0, 1]
    assert any(gap.startswith("2/result.json: is a link out") for gap in found.gaps)


@pytest.mark.parametrize("complete", [True, False])
def test_a_sweep_is_read_from_its_runs_with_or_without_its_table(tmp_path, complete):
    settings = grid(optimizer__lr=[0.1, 0.3], seed=[0, 1, 2])
    folder = write_sweep(tmp_path / "sweep", settings, [0.3, 0.2, None, 0.1, 0.5, 0.4], complete)
    sweep = read_sweep(folder)
    assert list(sweep.ranked["job"]) == [3, 1, 0, 5, 4]
    assert sweep.settings == ["optimizer.lr", "seed"]
    assert sweep.objectives == ["val/loss"]
    assert list(sweep.runs.loc[2, ["status", "error"]]) == ["failed", "optimizer.lr=9: it broke"]
    assert any(gap.startswith("sweep.csv") for gap in sweep.gaps) != complete


def test_a_sweep_without_its_runs_folders_is_read_from_its_table(tmp_path):
    settings = grid(optimizer__lr=[0.1, 0.3])
    folder = write_sweep(tmp_path / "sweep", settings, [0.3, 0.2])
    for number in (0, 1):
        (folder / str(number)).rename(tmp_path / f"gone{number}")
    sweep = read_sweep(folder)
    assert sweep.ranked[["job", "optimizer.lr", "val/loss"]].to_numpy().tolist() == [[1, "0.3", 0.2], [0, "0.1", 0.3]]
    assert sweep.settings == ["optimizer.lr"]


def test_a_job_without_its_folder_is_listed_and_changes_no_mean(tmp_path):
    settings = [{"data": "wine", **each} for each in grid(optimizer__lr=[0.1, 0.3], seed=[0, 1])]
    folder = write_sweep(tmp_path / "sweep", settings, [0.3, 0.2, 0.1, 0.4])
    rows = [row.split(",") for row in (folder / "sweep.csv").read_text().splitlines()]
    (folder / "sweep.csv").write_text(
        "\n".join(",".join([row[0], *row[2:]]) for row in rows) + "\n"
    )  # as it is written
    before = read_sweep(folder)
    (folder / "1").rename(tmp_path / "gone")
    after = read_sweep(folder)
    assert after.settings == before.settings == ["optimizer.lr", "seed"]
    columns = ["job", *before.settings, "status", "val/loss", "test/acc"]
    pd.testing.assert_frame_equal(
        after.runs[columns].drop(columns="test/acc"), before.runs[columns].drop(columns="test/acc")
    )
    assert "the sweep: the folders of jobs 1 are missing; sweep.csv is used for them" in after.gaps
    (folder / "sweep.csv").unlink()
    write_json(folder / "sweep.json", {"sweep": {"search": "grid"}, "jobs": ["a", "b", "c", "d"], "overrides": []})
    gaps = read_sweep(folder).gaps
    assert "the sweep: had 4 jobs; 1 without a folder and without a row in sweep.csv" in gaps
    write_json(folder / "sweep.json", {"jobs": 4})
    assert "sweep.json: jobs is left out: Input should be a valid list" in read_sweep(folder).gaps


def test_settings_named_like_our_columns_are_ignored(tmp_path):
    strange = ("job", "runs", "failed", "status", "error", "val/loss", "val/loss low", "", "x", "<b>", "seed")
    settings = [{key: str(number) for key in strange} for number in range(3)]
    folder = write_sweep(tmp_path / "sweep", settings, [0.1, 0.2, None], complete=False)
    sweep = read_sweep(folder)
    assert sorted(sweep.settings) == ["seed", "x"]
    assert list(sweep.ranked["job"]) == [0, 1]
    (folder / "sweep.csv").write_text("job,job,status,status,best val/loss,seconds,error\n0,1,finished,3,0.1,x,\n")
    rendered(folder)


def test_a_diverged_run_is_not_the_best_one_and_its_error_is_shown(tmp_path):
    folder = write_sweep(tmp_path / "sweep", grid(seed=[0, 1]), [0.1, 0.2])
    record = json.loads((folder / "0" / "result.json").read_text())
    write_json(folder / "0" / "result.json", record | {"status": "diverged", "error": "the loss is not finite"})
    sweep = read_sweep(folder)
    assert list(sweep.ranked["job"]) == [1]
    assert "the loss is not finite" in rendered(folder)


def test_a_folder_of_neither_a_run_nor_a_sweep_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "notes.txt"):
        with pytest.raises(UserError) as error:
            read_folder(path)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_thinning_keeps_the_ends_and_the_peaks_of_a_curve():
    epochs = pd.DataFrame({"epoch": range(100_000), "val/loss": 1.0, "audit/W": np.nan})
    epochs.loc[54_321, "val/loss"], epochs.loc[77_777, "val/loss"] = 9.0, -9.0
    few = thinned(epochs, ["val/loss", "audit/W"])
    assert len(few) <= MOST_EPOCHS + 2
    assert {0, 54_321, 77_777, 99_999} <= set(few["epoch"])
    assert few["epoch"].is_monotonic_increasing


@pytest.mark.parametrize("damage", [cut, empty, garbage, folder_instead, nested, pipe])
def test_a_damaged_result_counts_as_missing(tmp_path, damage):
    folder = write_run(tmp_path / "run")
    assert read_result(folder)["status"] == "finished"
    damage(folder / "result.json")
    assert read_result(folder) is None


def test_a_report_is_not_written_into_a_pipe(tmp_path):
    pipe(tmp_path / "report.html")
    with pytest.raises(UserError, match="is not a file, but a pipe"):
        write_report([write_run(tmp_path / "run")], tmp_path / "report.html")
