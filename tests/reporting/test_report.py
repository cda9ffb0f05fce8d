"""The report's content: its numbers are right, and text from outside stays text."""

import base64
import gzip
import json
import os
import re
import shutil
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tests.reporting.report_folders import grid, write_json, write_run, write_sweep

from backhand.errors import UserError
from backhand.reporting.charts import Figure, Table, label, lines, on_test_split
from backhand.reporting.comparison import paired
from backhand.reporting.error_analysis import ErrorAnalysis
from backhand.reporting.folder import read_sweep
from backhand.reporting.report import HERE, embedded, render, write_report
from backhand.reporting.sections import build_report

EVIL = "</script><script>alert(1)</script>\"'&amp; <b>{{ 7*7 }} {% x %} 😀 %{y} \u2028"


class Elements(HTMLParser):
    """The elements of a report as (tag, attributes), and its text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if not self.open:
            self.text.append(data)


def rendered(folders, report_folder):
    return render(build_report(folders, report_folder))


def charts_of(html):
    return [json.loads(each) for each in re.findall('<script type="application/json">(.*?)</script>', html, re.DOTALL)]


def strings(value):
    if isinstance(value, dict):
        yield from (text for inner in value.values() for text in strings(inner))
    elif isinstance(value, list):
        yield from (text for inner in value for text in strings(inner))
    elif isinstance(value, str):
        yield value


def test_text_from_outside_stays_text_in_a_run(tmp_path):
    classes = [EVIL, *"123456789"]
    folder = write_run(tmp_path / "run", settings={"name": EVIL, EVIL: EVIL}, error=EVIL, classes=classes)
    findings = json.loads((folder / "findings.json").read_text())
    findings["worst"][0] |= {"target": EVIL, "prediction": EVIL}
    write_json(folder / "findings.json", findings)
    (folder / "metrics.csv").write_text(
        (folder / "metrics.csv").read_text().replace("delta/output", '"delta/' + EVIL.replace('"', '""') + '"')
    )
    check_no_markup(rendered([folder], folder))


def test_text_from_outside_stays_text_in_a_sweep_and_in_a_comparison(tmp_path):
    settings = [{"model.hidden_activation": text, "seed": seed} for text in (EVIL, "tanh") for seed in "01"]
    folder = write_sweep(tmp_path / "a<b>&\"'{{x}}", settings, [0.1, 0.2, 0.3, None])
    check_no_markup(rendered([folder], tmp_path))
    for number in (0, 1):
        (folder / str(number) / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"name": EVIL, EVIL: [EVIL]}))
    check_no_markup(rendered([folder / "0", folder / "1"], tmp_path))


def check_no_markup(html):
    elements = Elements(html)
    types = [attributes.get("type") for tag, attributes in elements.tags if tag == "script"]
    charts = [attributes for _, attributes in elements.tags if attributes.get("class") == "chart"]
    assert types == ["application/json"] * (len(charts) + 1) + ["text/plain", None]
    assert "b" not in {tag for tag, _ in elements.tags}
    assert "alert(1)" in "".join(elements.text)
    assert "{{ 7*7 }}" in "".join(elements.text)
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    for text in strings(charts_of(html)):
        assert set(re.findall(r"<[^>]*>", text)) <= {"<br>", "<extra>", "</extra>"}  # markup that we write for Plotly


def test_embedded_json_ends_no_element_and_keeps_its_value():
    text = embedded(json.dumps({"x": EVIL}, ensure_ascii=False))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"x": EVIL}


def test_a_label_is_escaped_for_plotly_and_shortened():
    assert label("<i>a & b</i>") == "&lt;i&gt;a &amp; b&lt;/i&gt;"
    assert len(label("x" * 500)) == 40


def test_the_report_allows_only_its_own_scripts_and_has_no_urls(tmp_path):
    html = rendered([write_run(tmp_path / "run")], tmp_path)
    elements = Elements(html)
    policy = next(attributes["content"] for tag, attributes in elements.tags if attributes.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2
    assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]
    for tag, attributes in elements.tags:
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert tag != "link"
        assert not attributes.get("href", "").startswith(("http", "//", "javascript"))
    packed = html.partition('<script type="text/plain" id="plotly">')[2].partition("</script>")[0]
    assert gzip.decompress(base64.b64decode(packed)).count(b"Copyright 2012") == 1  # the licence of plotly.js
    assert len(html) < 1_000_000


def test_the_bundled_plotly_script_has_the_version_of_the_python_package():
    def header(path, opened):
        with opened(path, "rt", encoding="utf-8") as file:
            return re.search(r"plotly.js .*?v(\d+\.\d+\.\d+)", file.read(200))[1]

    ours = HERE / "plotly-cartesian.min.js.gz"
    theirs = files("plotly") / "package_data" / "plotly.min.js"
    assert header(ours, gzip.open) == header(theirs, open)


def test_headings_are_in_order_and_every_picture_and_chart_has_a_description(tmp_path):
    run = write_run(tmp_path / "run")
    sweep = write_sweep(tmp_path / "sweep", grid(optimizer__lr=[0.1, 0.3], seed=[0, 1]), [0.1, 0.2, 0.3, None])
    for folders in ([run], [sweep], [run, sweep]):
        tags = Elements(rendered(folders, tmp_path)).tags
        levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
        names = [tag for tag, _ in tags]
        assert names.count("figure") == names.count("figcaption") > 1
        assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
        assert all(attributes["aria-label"] for _, attributes in tags if attributes.get("class") == "chart")
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        anchors = [attributes["href"][1:] for _, attributes in tags if attributes.get("href", "").startswith("#")]
        assert set(anchors) <= set(ids)


def test_means_over_seeds_come_first_are_ranked_by_the_mean_and_are_plotted(tmp_path):
    settings = grid(optimizer__lr=[0.1, 0.3, 0.5], seed=[0, 1, 2, 3])
    # The best run is not of the best setting, and a single run comes after the means.
    values = [0.31, 0.28, 0.35, 0.10, 0.2, 0.25, 0.21, None, 0.15, None, None, None]
    report = build_report([write_sweep(tmp_path / "sweep", settings, values)], tmp_path)
    assert [section.name for section in report.sections][:3] == ["seeds", "pairs", "compare"]
    means = report.sections[0].blocks[0].frame
    assert list(means["optimizer.lr"]) == ["0.1", "0.3", "0.5"]  # complete first
    assert means[["runs", "failed"]].to_numpy().tolist() == [[4, "0"], [3, "1 of 4"], [1, "3 of 4"]]
    assert means["val/loss"].tolist() == pytest.approx([0.26, 0.22, 0.15])
    assert "test/acc" in means
    labels = {label: (value, note) for label, value, note in report.tiles}
    assert labels["best mean val/loss"] == ("0.26", "optimizer.lr=0.1, 4 seeds")
    assert labels["val/loss of the best run"] == ("0.1", "job 3, optimizer.lr=0.1, seed=3")
    pairs = report.sections[1].blocks[0].frame
    assert pairs[["optimizer.lr", "pairs"]].to_numpy().tolist() == [["0.3", 3]]
    assert pairs["val/loss"].tolist() == pytest.approx([np.mean([0.2 - 0.31, 0.25 - 0.28, 0.21 - 0.35])])
    (figure,) = [block for block in report.sections[2].blocks if block.title == "val/loss against optimizer.lr"]
    (trace,) = figure.figure.data
    assert (list(trace.x), list(trace.y)) == (["0.1", "0.3", "0.5"], pytest.approx([0.26, 0.22, 0.15]))
    assert trace.error_y.array.tolist() == pytest.approx(means["± val/loss"].tolist(), nan_ok=True)
    drawn = figure.table.frame.set_index("optimizer.lr")
    assert list(drawn.index) == ["0.1", "0.3", "0.5"]
    assert drawn["runs"].tolist() == [4, 3, 1]
    assert drawn["val/loss"].tolist() == pytest.approx([0.26, 0.22, 0.15])
    half = means.set_index("optimizer.lr")["± val/loss"][drawn.index]
    for bound, sign in (("low", -1), ("high", 1)):
        expected = (drawn["val/loss"] + sign * half).tolist()
        assert drawn[f"val/loss {bound}"].tolist() == pytest.approx(expected, nan_ok=True)
    (lines_of_runs,) = [block for block in blocks(report) if block.kind == "figure" and block.wide]
    assert lines_of_runs.note.endswith("2 of 2 settings. 4 runs without a finite objective are not shown.")


def test_without_seeds_every_run_is_plotted_and_there_is_no_mean(tmp_path):
    report = build_report([write_sweep(tmp_path / "sweep", grid(optimizer__lr=[0.1, 0.3]), [0.1, 0.2])], tmp_path)
    assert report.sections[0].name == "compare"
    figure = report.sections[0].blocks[1]
    (trace,) = figure.figure.data
    assert list(trace.y) == [0.1, 0.2]
    assert trace.error_y.array is None
    assert figure.table.frame.to_numpy().tolist() == [["0.1", 0.1, 0.1, 0.1, 1], ["0.3", 0.2, 0.2, 0.2, 1]]
    assert [value for name, value, _ in report.tiles if name == "test/acc of the best run"] == ["97.41%"]


SAMPLED = ["0.01234567890123", "0.01234999999999", "0.09876543210987"]


def test_sampled_numbers_are_on_a_numeric_axis_and_have_four_digits(tmp_path):
    report = build_report([write_sweep(tmp_path / "sweep", grid(optimizer__lr=SAMPLED), [0.3, 0.1, 0.2])], tmp_path)
    (trace,) = report.sections[0].blocks[1].figure.data
    assert sorted(trace.x) == list(map(float, SAMPLED))
    assert report.tiles[0][2] == "job 1, optimizer.lr=0.01235"


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]], ids=["single runs", "means over seeds"])
def test_every_table_of_a_sweep_shows_sampled_numbers_with_four_digits(tmp_path, seeds):
    settings = grid(optimizer__lr=SAMPLED, model__init_scale=["0.1", "1.23456789"], seed=seeds)
    values = [0.1 + 0.01 * run for run in range(len(settings) - 1)]
    report = build_report([write_sweep(tmp_path / "sweep", settings, [*values, None])], tmp_path)
    figures = [block.table for block in blocks(report) if isinstance(block, Figure) and block.table]
    shown = [table.frame["optimizer.lr"] for table in [*tables(report), *figures] if "optimizer.lr" in table.frame]
    assert len(shown) == (6 if len(seeds) > 1 else 3)
    assert set(pd.concat(shown)) == {"0.01235", "0.09877"}
    html = rendered([tmp_path / "sweep"], tmp_path)
    assert not [number for number in (*SAMPLED, "1.23456789") if f">{number}<" in html or f"={number}" in html]


def test_the_settings_of_a_run_keep_all_their_digits(tmp_path):
    folder = write_run(tmp_path / "run", settings={"optimizer": {"name": "sgd", "lr": SAMPLED[0]}})
    assert SAMPLED[0] in set(
        next(table.frame for table in tables(build_report([folder], folder)) if "key" in table.frame)["value"]
    )


def test_long_values_that_differ_only_in_the_middle_stay_apart(tmp_path):
    names = ["[1,1,1,1,1,2,1,1,1,1,1]", "[1,1,1,1,1,3,1,1,1,1,1]"]
    report = build_report([write_sweep(tmp_path / "sweep", grid(model__hidden=names), [0.3, 0.1])], tmp_path)
    figure = report.sections[0].blocks[1].figure
    assert sorted(figure.data[0].x) == names
    assert max(map(len, figure.layout.xaxis.ticktext)) == 16


def test_two_sweeps_are_compared_by_the_runs_with_the_same_seeds_of_their_best_settings(tmp_path):
    one = grid(optimizer__lr=[0.1, 0.3], seed=[0, 1, 2])
    write_sweep(tmp_path / "a", one, [0.1, 0.9, 0.9, 0.3, 0.3, 0.3])
    write_sweep(tmp_path / "b", grid(seed=[1, 2, 3]), [0.2, 0.1, 0.01])
    report = build_report([tmp_path / "a", tmp_path / "b"], tmp_path)
    ((name, pairs),) = report.comparisons.items()
    assert name == f"a = {tmp_path / 'a'} (optimizer.lr=0.3), b = {tmp_path / 'b'}"
    loss = pairs.loc["val/loss"]
    assert (loss["pairs"], loss["a"], loss["b"]) == (2, pytest.approx(0.3), pytest.approx(0.15))
    given = [pd.DataFrame({"seed": ["1", "2"], "val/loss": values}) for values in ([0.3, 0.3], [0.2, 0.1])]
    expected = paired(*given, ["val/loss"]).loc["val/loss"]
    pd.testing.assert_series_equal(loss.drop("left_out"), expected.drop("left_out"))
    assert report.sections[0].name == "pairs"
    write_sweep(tmp_path / "c", grid(seed=[7, 8]), [0.2, 0.1])
    for file in tmp_path.glob("c/*/result.json"):
        file.write_text(file.read_text().replace('"seconds": 2.7', '"seconds": null'))
    report = build_report([tmp_path / "a", tmp_path / "c"], tmp_path)
    assert not report.comparisons
    assert any("fewer than two seeds in common" in remark for remark in report.remarks)


def test_a_comparison_remarks_on_failed_seeds(tmp_path):
    write_sweep(tmp_path / "a", grid(seed=[0, 1, 2, 3, 4]), [0.3, 0.4, None, 0.2, None])
    write_sweep(tmp_path / "b", grid(seed=[0, 1, 2, 3, 4]), [0.3, 0.4, 0.1, 0.2, None])
    report = build_report([tmp_path / "a", tmp_path / "b"], tmp_path)
    ((name, pairs),) = report.comparisons.items()
    assert name == f"a = {tmp_path / 'a'}, b = {tmp_path / 'b'}"
    assert pairs.loc["val/loss", ["pairs", "left_out"]].tolist() == [3, 2]
    assert report.sections[0].blocks[0].frame["left out"][0] == "2"
    assert report.sections[1].blocks[0].frame["runs"].tolist() == [3, 4]
    assert report.remarks == [
        f"{tmp_path / name}: {failed} of 5 runs failed and are not averaged" for name, failed in (("a", 2), ("b", 1))
    ]


@pytest.mark.parametrize(("splits", "said"), [(["0", "0"], True), (["${seed}", "${seed}"], False), ([], False)])
def test_a_comparison_remarks_on_test_samples_that_all_seeds_share(tmp_path, splits, said):
    for name in ("a", "b"):
        write_sweep(tmp_path / name, grid(seed=[0, 1]), [0.3, 0.4])
        for seed, split in enumerate(splits):
            config = tmp_path / name / str(seed) / ".hydra" / "config.yaml"
            config.write_text(config.read_text().replace("data:\n", f"data:\n  split_seed: {split}\n", 1))
            config.write_text(config.read_text().replace("seed: 0\nobj", f"seed: {seed}\nobj"))
    report = build_report([tmp_path / "a", tmp_path / "b"], tmp_path)
    assert any("all seeds have the same test samples" in remark for remark in report.remarks) == said


def test_remarks_on_a_comparison_have_their_own_heading(tmp_path):
    for name in ("a", "b"):
        write_sweep(tmp_path / name, grid(seed=[0, 1, 2]), [0.3, 0.4, None])
    (tmp_path / "b" / "sweep.csv").unlink()
    report = build_report([tmp_path / "a", tmp_path / "b"], tmp_path)
    assert any("1 of 3 runs failed" in remark for remark in report.remarks)
    assert any("sweep.csv" in gap for gap in report.gaps)
    assert not set(report.remarks) & set(report.gaps)
    limits, missing = "Limits of this comparison", "What is missing here"
    html = rendered([tmp_path / "a", tmp_path / "b"], tmp_path)
    between = html.partition(f">{limits}</h2>")[2].partition(f">{missing}</h2>")[0]
    assert "1 of 3 runs failed" in between
    assert "sweep.csv" not in between
    single = rendered([tmp_path / "a"], tmp_path)
    assert limits not in single
    assert missing not in single


@pytest.mark.parametrize(
    ("names", "title"),
    [
        ("ab", "Comparison of 2 sweeps"),
        ("xy", "Comparison of 2 runs"),
        ("xab", "Comparison of 1 run and 2 sweeps"),
    ],
)
def test_the_title_of_a_comparison_counts_runs_and_sweeps(tmp_path, names, title):
    for name in names:
        if name in "xy":
            write_run(tmp_path / name)
        else:
            write_sweep(tmp_path / name, grid(seed=[0, 1]), [0.3, 0.4])
    assert build_report([tmp_path / name for name in names], tmp_path).title == title


def test_every_section_with_curves_says_that_epochs_are_counted_from_one(tmp_path):
    run, sweep = write_run(tmp_path / "run"), write_sweep(tmp_path / "sweep", grid(lr=[1, 2], seed=[0, 1]), [0.1] * 4)
    for folders, counted in (([run], 1), ([sweep], 2), ([run, sweep], 1)):
        report = build_report(folders, tmp_path)
        with_curves = [
            section
            for section in report.sections
            if any(block.title.startswith("Loss") for block in section.blocks if isinstance(block, Figure))
        ]
        assert len(with_curves) == counted
        for section in with_curves:
            assert section.note.endswith("counted from 1 in this report and from 0 in metrics.csv.")
            for figure in section.blocks:
                assert figure.table.frame["epoch"].iloc[0] == 1
                assert all(line.x[0] == 1 for line in figure.figure.data)


@pytest.mark.parametrize(
    ("settings", "chosen", "paired_too"),
    [
        ({"data": {"name": "wine", "loss": "cross_entropy"}}, {}, False),
        ({"model": {"loss": "mse"}}, {}, False),
        ({"model": {"loss": "auto"}}, {"model.loss": "mse"}, False),
        ({"objective": "val/acc"}, {}, True),
        ({"data": {"name": "digits", "loss": "cross_entropy", "split_seed": 1}}, {}, True),
        ({"model": {"loss": "auto"}}, {"model.loss": "cross_entropy"}, True),
    ],
)
def test_differing_settings_get_a_remark_and_other_data_or_losses_are_not_paired(
    tmp_path, settings, chosen, paired_too
):
    same = {"data": {"name": "digits", "loss": "cross_entropy", "split_seed": 0}}
    for name, own in (("a", same), ("b", same | settings)):
        write_sweep(tmp_path / name, grid(seed=[0, 1]), [0.3, 0.4])
        for job in (0, 1):
            shutil.rmtree(tmp_path / name / str(job))
            run = write_run(tmp_path / name / str(job), settings=own, overrides=[f"seed={job}"])
            record = json.loads((run / "result.json").read_text())
            write_json(run / "result.json", record | {"chosen": chosen if name == "b" else {}})
    said = 0 if chosen.get("model.loss") == "cross_entropy" else 1
    report = build_report([tmp_path / "a", tmp_path / "b"], tmp_path)
    assert sum("metrics may not be comparable" in remark for remark in report.remarks) == said
    assert bool(report.comparisons) == paired_too
    assert sum("no paired difference" in remark for remark in report.remarks) == (not paired_too)
    report = build_report([tmp_path / "a" / "0", tmp_path / "b" / "0"], tmp_path)
    assert sum("metrics may not be comparable" in remark for remark in report.remarks) == said


def test_a_comparison_names_the_other_settings_that_differ(tmp_path):
    shared = {"trainer": {"max_epochs": 3}, "model": {"gradient": "hand"}}
    a = write_run(tmp_path / "a", settings=shared, overrides=["seed=0"])
    b = write_run(tmp_path / "b", settings=shared | {"model": {"gradient": "own.py:flat"}}, overrides=["seed=1"])
    report = build_report([a, b], tmp_path)
    assert "settings that differ: model.gradient (hand, own.py:flat)" in report.remarks
    many = {"optimizer": dict.fromkeys("abcdefgh", 1)}
    c = write_run(tmp_path / "c", settings=shared | {"optimizer": dict.fromkeys("abcdefgh", 2)}, overrides=[])
    d = write_run(tmp_path / "d", settings=shared | many, overrides=[])
    (said,) = (each for each in build_report([c, d], tmp_path).remarks if each.startswith("settings that differ"))
    assert (said.count("optimizer."), said.rpartition("; ")[2]) == (6, "2 more under Settings")


def test_the_mean_curve_ends_with_the_shortest_run(tmp_path):
    write_sweep(tmp_path / "a", grid(seed=[0, 1]), [0.3, 0.4])
    write_sweep(tmp_path / "b", grid(seed=[0, 1]), [0.3, 0.4])
    for seed, losses in enumerate([[0.5, 0.4], [0.9, 0.8, 0.7]]):
        rows = "".join(f"{epoch},{loss}\n" for epoch, loss in enumerate(losses))
        (tmp_path / "a" / str(seed) / "metrics.csv").write_text("epoch,val/loss\n" + rows)
    (tmp_path / "b" / "1" / "metrics.csv").unlink()
    report = build_report([tmp_path / "a", tmp_path / "b"], tmp_path)
    (section,) = [section for section in report.sections if section.name == "curves"]
    shown = section.blocks[0].table.frame[str(tmp_path / "a")].dropna()
    assert shown.tolist() == pytest.approx([0.7, 0.6])
    assert "up to the epoch where the first of them ends" in section.note
    assert f"{tmp_path / 'b'}: the curves are without 1 of 2 runs: no readable metrics.csv" in report.gaps
    (tmp_path / "a" / "1" / "metrics.csv").write_text("epoch,val/loss\n7,0.1\n")  # no epoch in common
    (tmp_path / "b" / "0" / "metrics.csv").unlink()
    assert not curves_of(build_report([tmp_path / "a", tmp_path / "b"], tmp_path))


def test_a_run_without_a_metric_does_not_change_the_colours_of_the_others(tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / name)
    (tmp_path / "a" / "metrics.csv").write_text("epoch,val/loss\n0,0.1\n1,0.2\n")
    loss, accuracy = (
        curves_of(build_report([tmp_path / "a", tmp_path / "b"], tmp_path))[name] for name in ("Loss", "Accuracy")
    )
    assert [line.name for line in loss.data] == [line.name for line in accuracy.data]
    assert [line.showlegend for line in accuracy.data] == [False, True]


def test_class_names_are_escaped_once_in_the_report_and_shortened_only_in_the_chart(tmp_path):
    names = ["<=50K", ">50K & a name of more than 16 letters"]
    folder = write_run(tmp_path / "run", classes=names, confusion=[[5, 1], [2, 6]])
    matrix, table = on_test_split(ErrorAnalysis(classes=names, confusion=[[5, 1], [2, 6]]))
    assert list(matrix.figure.layout.xaxis.ticktext) == ["&lt;=50K", "&gt;50K &amp; a…letters"]
    assert list(matrix.table.frame) == ["true", *names]
    assert set(table.frame["class"]) == set(names)
    assert not re.search(
        "&amp;(lt|gt|amp);", rendered([folder], folder).partition("<script>")[0].partition("<table")[2]
    )


def test_the_report_says_why_a_large_confusion_matrix_is_left_out():
    classes = [str(place) for place in range(101)]
    (table,) = on_test_split(ErrorAnalysis(classes=classes, confusion=np.eye(101, dtype=int).tolist()))
    assert "the confusion matrix of 101 classes is too large to show" in table.caption


def test_recall_and_precision_are_those_of_scikit_learn():
    from sklearn.metrics import precision_score, recall_score

    matrix = [[8, 2, 0], [1, 5, 4], [0, 0, 9]]
    pairs = [(t, p) for t in range(3) for p in range(3) for _ in range(matrix[t][p])]
    target, predicted = zip(*pairs, strict=True)
    _, table = on_test_split(ErrorAnalysis(classes=["a", "b", "c"], confusion=matrix))
    rows = table.frame.set_index("class").loc[list("abc")]
    assert rows["recall"].tolist() == pytest.approx(recall_score(target, predicted, average=None))
    assert rows["precision"].tolist() == pytest.approx(precision_score(target, predicted, average=None))
    assert rows.loc["b", "most often taken for"] == "c (4)"
    assert table.frame["class"].iloc[0] == "b"


def test_the_best_run_is_marked_and_linked_to_its_report_if_it_has_one(tmp_path):
    folder = write_sweep(tmp_path / "a #1?", grid(seed=[0, 1, 2]), [0.3, 0.1, 0.2])
    write_report([folder / "1"], folder / "1" / "report.html")
    html = rendered([folder], tmp_path)
    links = [attributes["href"] for tag, attributes in Elements(html).tags if tag == "a"]
    assert "a%20%231%3F/1/report.html" in links
    assert "a%20%231%3F/0/" in links
    assert "job 1, seed=1" in html
    runs = next(
        block
        for section in build_report([folder], tmp_path).sections
        if section.name == "runs"
        for block in section.blocks
    )
    assert runs.marked == {1}


def test_the_best_run_has_the_highest_value_if_higher_is_better(tmp_path):
    folder = write_sweep(tmp_path / "sweep", grid(seed=[0, 1, 2]), [0.3, 0.9, 0.2])
    for file in [folder / "sweep.csv", *folder.glob("*/result.json")]:
        file.write_text(
            file.read_text().replace("best val/loss", "best val/acc").replace('"name": "val/loss"', '"name": "val/acc"')
        )
    sweep = read_sweep(folder)
    assert sweep.objectives == ["val/acc"]
    assert list(sweep.ranked["job"]) == [1, 0, 2]


@pytest.mark.parametrize(("first", "missing"), [(0, ()), (30, ()), (0, (1, 2))])
def test_the_epoch_of_the_best_objective_is_the_one_that_the_chart_shows(tmp_path, first, missing):
    """Also for a run that was resumed in a new folder, or whose metrics.csv lacks rows."""
    folder = write_run(tmp_path / "run", epochs=9)
    table = pd.read_csv(folder / "metrics.csv").drop(index=list(missing))
    best = table["val/loss"].iloc[3]
    epoch = int(table["epoch"].iloc[3]) + first
    table.assign(epoch=table["epoch"] + first).to_csv(folder / "metrics.csv", index=False)
    record = json.loads((folder / "result.json").read_text())
    record["objective"]["value"] = best
    write_json(folder / "result.json", record)
    report = build_report([folder], folder)
    assert ("best val/loss", f"{best:.4g}", f"epoch {epoch + 1}") in report.tiles
    (figure,) = [block for block in blocks(report) if isinstance(block, Figure) and block.title == "Loss"]
    (line,) = [line for line in figure.figure.data if line.name == "validation"]
    assert line.x[list(line.y).index(best)] == epoch + 1


def test_the_best_epoch_of_tiny_losses_is_the_one_with_the_lowest(tmp_path):
    folder = write_run(tmp_path / "run", value=1e-12)
    (folder / "metrics.csv").write_text("epoch,val/loss\n0,3e-12\n1,1e-12\n2,2e-12\n")
    assert ("best val/loss", "1e-12", "epoch 2") in build_report([folder], folder).tiles


@pytest.mark.parametrize(
    ("epochs", "rows", "note"), [(1, 1, "1 epoch"), (30, 30, "30 epochs"), (45, 15, "15 of 45 epochs")]
)
def test_the_seconds_are_those_of_the_epochs_that_were_trained_here(tmp_path, epochs, rows, note):
    folder = write_run(tmp_path / "run", epochs=rows)
    record = json.loads((folder / "result.json").read_text())
    write_json(folder / "result.json", record | {"epochs": epochs, "audit": {"times": 1, "worst": 1e-7}})
    tiles = build_report([folder], folder).tiles
    assert ("training", "2.7 s", note) in tiles
    assert ("worst gradient error", "1e-07", "in 1 audit") in tiles


def test_settings_that_differ_are_marked_by_a_sign(tmp_path):
    one = write_run(tmp_path / "one")
    two = write_run(tmp_path / "two", settings={"seed": 7})
    html = rendered([one, two], tmp_path)
    assert html.count("≠ seed") == 1
    assert "≠ model" not in html
    assert "1 setting with different values" in html


def test_names_are_not_repeated_and_a_long_legend_makes_the_figure_higher(tmp_path):
    folders = [write_run(tmp_path / f"run{place}") for place in range(10)]
    few, many = build_report(folders[:2], tmp_path), build_report(folders, tmp_path)
    assert few.subtitle == " · ".join(map(str, folders[:2]))
    heights = [blocks(report)[1].height for report in (few, many)]
    assert heights[1] - heights[0] == 8 * 19  # a legend's row per name


@pytest.mark.parametrize(("lowest", "dtick"), [(1e-3, 1), (1e-9, None)])
def test_each_power_of_ten_is_labelled_if_the_labels_fit(lowest, dtick):
    (figure,) = lines(
        pd.DataFrame({"epoch": [0, 1], "val/loss": [1.0, lowest]}), {"val/loss": "validation"}, "Loss", "", "loss"
    )
    assert figure.figure.layout.yaxis.dtick == dtick


def test_the_axis_of_a_constant_has_a_margin():
    (figure,) = lines(pd.DataFrame({"epoch": [0, 1], "lr": 0.5}), {"lr": "learning rate"}, "Learning rate")
    assert figure.figure.layout.yaxis.range == pytest.approx((0.45, 0.55))


def test_many_epochs_are_thinned_and_the_report_says_so(tmp_path):
    folder = write_run(tmp_path / "run", epochs=5)
    rows = "".join(f"{epoch},{1 / (epoch + 1)}\n" for epoch in range(100_000))
    (folder / "metrics.csv").write_text("epoch,val/loss\n" + rows)
    html = rendered([folder], tmp_path)
    assert len(html) < 1_000_000
    assert "Of 100,000 epochs the chart shows" in html


@pytest.mark.slow
def test_the_report_of_a_thousand_runs_is_smaller_than_3_mb(tmp_path):
    settings = grid(optimizer__lr=[0.01, 0.03, 0.1, 0.3], model__hidden=["[8]", "[16]"], seed=range(125))
    folder = write_sweep(tmp_path / "sweep", settings, list(np.random.default_rng(0).uniform(0.1, 0.2, 1000)))
    html = rendered([folder], tmp_path)
    assert len(html.encode()) < 3_000_000
    assert html.count("</tr>") > 1000


def test_the_subtitle_has_the_values_of_auto_settings(tmp_path):
    folder = write_run(
        tmp_path / "run", settings={"model": {"hidden": [4], "loss": "auto", "output_activation": "auto"}}
    )
    record = json.loads((folder / "result.json").read_text())
    write_json(
        folder / "result.json",
        record | {"chosen": {"model.loss": "binary_cross_entropy", "model.output_activation": "sigmoid"}},
    )
    assert "output_activation sigmoid · loss binary_cross_entropy" in build_report([folder], folder).subtitle


def test_a_file_that_is_no_report_is_not_overwritten(tmp_path):
    folder = write_run(tmp_path / "run")
    before = (folder / "result.json").read_bytes()
    with pytest.raises(UserError, match="nothing is overwritten"):
        write_report([folder], folder / "result.json")
    assert (folder / "result.json").read_bytes() == before
    write_report([folder], folder / "report.html")
    write_report([folder], folder / "report.html")


def test_a_link_in_place_of_the_temporary_file_is_replaced_and_not_followed(tmp_path):
    folder = write_run(tmp_path / "run")
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (folder / "report.html.tmp").symlink_to(precious)
    write_report([folder], folder / "report.html")
    assert precious.read_text() == "keep"
    assert not (folder / "report.html").is_symlink()


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_may_have_a_name_that_is_not_utf_8_and_be_given_as_a_string(tmp_path, kind):
    root = tmp_path / os.fsdecode(b"\xff")
    run = write_run(root / "run")
    sweeps = [write_sweep(root / name, grid(seed=[0, 1]), [0.1, 0.2]) for name in "ab"]
    for folders in ([run], sweeps[:1], [run, *sweeps]):
        write_report([kind(each) for each in folders], kind(root / "report.html"))
        assert "<h1>" in (root / "report.html").read_text()


def test_a_lone_surrogate_does_not_prevent_the_report(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "result.json").write_text('{"status": "failed", "error": "\\ud800 broke"}')
    findings = json.loads((folder / "findings.json").read_text())
    (folder / "findings.json").write_text(json.dumps(findings | {"classes": ["\ud800", *findings["classes"][1:]]}))
    write_report([folder], folder / "report.html")
    assert "? broke" in (folder / "report.html").read_text()


def blocks(report):
    return [block for section in report.sections for block in section.blocks]


def curves_of(report):
    return {block.title.partition(",")[0]: block.figure for block in blocks(report) if isinstance(block, Figure)}


def tables(report):
    return [block for block in blocks(report) if isinstance(block, Table)]


def test_every_metrics_table_says_which_epoch_it_is_from(tmp_path):
    """Test metrics are the best checkpoint's; other metrics may be the last epoch's."""
    write_run(tmp_path / "run")
    report = build_report([tmp_path / "run"], tmp_path)
    (metrics,) = [table.frame for table in tables(report) if table.frame.columns[0] == "metric"]
    loss = metrics[metrics["metric"].str.endswith("loss")].set_index("metric")
    assert loss["best epoch"].to_dict() == {"test/loss": "0.0814", "train/loss": "0.0035", "val/loss": "0.08"}
    assert loss["last epoch"].to_dict() == {"test/loss": "", "train/loss": "0.0014", "val/loss": "0.0827"}
    write_sweep(tmp_path / "sweep", grid(optimizer__lr=[0, 1]), [0.3, 0.2])
    (runs,) = next(
        section for section in build_report([tmp_path / "sweep"], tmp_path).sections if section.name == "runs"
    ).blocks
    assert runs.caption == "Validation metrics are of the best epoch, test metrics of its checkpoint"
    assert runs.frame["val/loss"].tolist() == [0.3, 0.2]  # of the last epoch it is 0.0827
    assert set(runs.frame.columns) == {"job", "optimizer.lr", "status", "val/loss", "test/loss", "test/acc", "seconds"}


def test_a_number_is_formatted_as_its_metric_and_sorted_by_its_value():
    table = Table("", pd.DataFrame({"name": ["a"], "test/acc": [0.975], "± val/loss": [np.nan], "runs": [3]}))
    assert table.rows() == [[("a", None), ("97.50%", 0.975), ("", None), ("3", 3.0)]]
    assert table.numeric == [False, True, True, True]


def test_misclassified_samples_are_counted_and_come_with_their_pictures(tmp_path):
    folder = write_run(tmp_path / "run", classes=["a", "b"], confusion=[[8, 2], [1, 9]])
    (section,) = [section for section in build_report([folder], folder).sections if section.name == "worst"]
    assert section.note.startswith("3 of 20 test samples were misclassified")
    assert section.blocks[0].pictures[0][1] == ["3 → 8", "loss 6", "sample 0"]
