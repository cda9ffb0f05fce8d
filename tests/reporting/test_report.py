"""What the report says, that text from outside stays text in it, and that its numbers are right."""

import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import yaml
from scipy import stats
from tests.reporting.report_folders import grid, write_json, write_run, write_sweep

from backhand.errors import UserError
from backhand.reporting.charts import Table, by_class, group_table, groups, label, sweep_charts
from backhand.reporting.folder import Findings, read_sweep
from backhand.reporting.page import build_page
from backhand.reporting.report import embedded, render, write_report

EVIL = "</script><script>alert(1)</script>\"'&amp; <b>{{ 7*7 }} {% x %} 😀 %{y} \u2028"


class Elements(HTMLParser):
    """The page's elements as (tag, attributes), its links' targets, and its text outside of scripts and styles."""

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


def charts_of(page):
    return json.loads(page.rpartition('id="charts">')[2].partition("</script>")[0])


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
    check_no_markup(render([folder], folder), scripts=3)


def test_text_from_outside_stays_text_in_a_sweep_and_side_by_side(tmp_path):
    settings = [{"model.hidden_activation": text, "seed": seed} for text in (EVIL, "tanh") for seed in "01"]
    folder = write_sweep(tmp_path / "a<b>&\"'{{x}}", settings, [0.1, 0.2, 0.3, None])
    check_no_markup(render([folder], tmp_path), scripts=3)
    for number in (0, 1):
        (folder / str(number) / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"name": EVIL, EVIL: [EVIL]}))
    check_no_markup(render([folder / "0", folder / "1"], tmp_path), scripts=3)


def check_no_markup(page, scripts):
    elements = Elements(page)
    assert [tag for tag, _ in elements.tags].count("script") == scripts
    assert "b" not in {tag for tag, _ in elements.tags}
    assert "alert(1)" in "".join(elements.text)
    assert "{{ 7*7 }}" in "".join(elements.text)
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    for text in strings(charts_of(page)):
        assert set(re.findall(r"<[^>]*>", text)) <= {"<br>"}  # Plotly's own line break, which is ours


def test_json_in_the_page_ends_no_element_and_says_the_same():
    text = embedded({"x": EVIL})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"x": EVIL}


def test_a_label_is_read_by_plotly_as_it_was_written():
    assert label("<i>a & b</i>") == "&lt;i&gt;a &amp; b&lt;/i&gt;"
    assert len(label("x" * 500)) == 60


def test_the_page_allows_its_own_scripts_only_and_names_no_address(tmp_path):
    page = render([write_run(tmp_path / "run")], tmp_path)
    elements = Elements(page)
    policy = next(attributes["content"] for tag, attributes in elements.tags if attributes.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2
    assert "unsafe" not in policy.partition("script-src")[2].partition(";")[0]
    for tag, attributes in elements.tags:
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
        assert tag != "link"
        assert not attributes.get("href", "").startswith(("http", "//", "javascript"))
    assert page.count("Copyright 2012") == 1  # plotly.js, once


def test_headings_are_in_order_and_every_picture_and_chart_has_words(tmp_path):
    run = write_run(tmp_path / "run")
    sweep = write_sweep(tmp_path / "sweep", grid(optimizer__lr=[0.1, 0.3], seed=[0, 1]), [0.1, 0.2, 0.3, None])
    for folders in ([run], [sweep], [run, sweep]):
        tags = Elements(render(folders, tmp_path)).tags
        levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
        names = [tag for tag, _ in tags]
        assert names.count("figure") == names.count("figcaption") > 1
        assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
        assert all(attributes["aria-label"] for _, attributes in tags if "data-chart" in attributes)
        ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        anchors = [attributes["href"][1:] for _, attributes in tags if attributes.get("href", "").startswith("#")]
        assert set(anchors) <= set(ids)


def test_a_mean_and_its_interval_are_those_of_scipy(tmp_path):
    settings = grid(optimizer__lr=[0.1, 0.3], seed=[0, 1, 2, 3])
    values = [0.31, 0.28, 0.35, 0.30, 0.2, 0.25, 0.21, None]
    sweep = read_sweep(write_sweep(tmp_path / "sweep", settings, values))
    found = {group.settings["optimizer.lr"]: group for group in groups(sweep)}
    for lr, own in (("0.1", values[:4]), ("0.3", values[4:7])):
        low, high = stats.t.interval(0.95, len(own) - 1, np.mean(own), stats.sem(own))
        assert found[lr].mean == pytest.approx(np.mean(own))
        assert found[lr].half_width == pytest.approx((high - low) / 2)
    assert [row[0].text for row in group_table(sweep).rows] == ["0.3", "0.1"]  # the best mean first


def test_a_bar_lies_where_the_axis_says(tmp_path):
    settings = grid(optimizer__lr=[0.1, 0.3], seed=[0, 1, 2])
    values = [0.5, 0.6, 0.7, 0.2, 0.3, 0.4]
    sweep = read_sweep(write_sweep(tmp_path / "sweep", settings, values))
    chart = next(chart for chart in sweep_charts(sweep) if chart.title == "val/loss against optimizer.lr")
    bars = next(trace for trace in chart.data if trace["name"] == "mean over seeds")
    assert sorted(bars["y"]) == pytest.approx([(0.3 - 0.2) / 0.5, (0.6 - 0.2) / 0.5])
    half = stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3) / 0.5
    assert bars["error_y"]["array"][bars["y"].index(min(bars["y"]))] == pytest.approx(half)


def test_without_seeds_there_is_no_interval(tmp_path):
    sweep = read_sweep(write_sweep(tmp_path / "sweep", grid(optimizer__lr=[0.1, 0.3]), [0.1, 0.2]))
    assert group_table(sweep) is None
    assert not any(trace.get("name") == "mean over seeds" for chart in sweep_charts(sweep) for trace in chart.data)


def test_recall_and_precision_are_those_of_scikit_learn():
    from sklearn.metrics import precision_score, recall_score

    matrix = [[8, 2, 0], [1, 5, 4], [0, 0, 9]]
    pairs = [(t, p) for t in range(3) for p in range(3) for _ in range(matrix[t][p])]
    target, predicted = zip(*pairs, strict=True)
    table = by_class(Findings(classes=["a", "b", "c"], confusion=matrix))
    rows = {row[0].text: row for row in table.rows}
    order = [rows[name] for name in "abc"]
    assert [row[2].value for row in order] == pytest.approx(recall_score(target, predicted, average=None))
    assert [row[3].value for row in order] == pytest.approx(precision_score(target, predicted, average=None))
    assert rows["b"][4].text == "c (4)"
    assert table.rows[0][0].text == "b"


def test_the_best_run_is_named_and_linked_to_its_report_where_it_has_one(tmp_path):
    folder = write_sweep(tmp_path / "a #1?", grid(seed=[0, 1, 2]), [0.3, 0.1, 0.2])
    write_report([folder / "1"], folder / "1" / "report.html")
    page = render([folder], tmp_path)
    links = [attributes["href"] for tag, attributes in Elements(page).tags if tag == "a"]
    assert "a%20%231%3F/1/report.html" in links
    assert "a%20%231%3F/0/" in links
    assert "The best run: job 1" in page
    runs = next(
        block
        for section in build_page([folder], tmp_path).sections
        if section.name == "runs"
        for block in section.blocks
    )
    assert runs.marked == {1}


def test_where_higher_is_better_the_best_run_has_the_highest_value(tmp_path):
    folder = write_sweep(tmp_path / "sweep", grid(seed=[0, 1, 2]), [0.3, 0.9, 0.2])
    for file in [folder / "sweep.csv", *folder.glob("*/result.json")]:
        file.write_text(
            file.read_text().replace("best val/loss", "best val/acc").replace('"name": "val/loss"', '"name": "val/acc"')
        )
    sweep = read_sweep(folder)
    assert sweep.objectives == ["val/acc"]
    assert [job.number for job in sweep.ranked] == [1, 0, 2]


def test_the_epoch_of_the_best_objective_is_named(tmp_path):
    folder = write_run(tmp_path / "run", epochs=9)
    text = (folder / "metrics.csv").read_text().splitlines()
    place = text[0].split(",").index("val/loss")
    values = [float(line.split(",")[place]) for line in text[1:]]
    record = json.loads((folder / "result.json").read_text())
    record["objective"]["value"] = values[3]
    write_json(folder / "result.json", record)
    (tile,) = [tile for tile in build_page([folder], folder).tiles if tile.label == "best val/loss"]
    assert tile.note == "epoch 4"  # people count from one


def test_settings_that_differ_are_marked_by_a_sign(tmp_path):
    one = write_run(tmp_path / "one")
    two = write_run(tmp_path / "two", settings={"seed": 7})
    page = render([one, two], tmp_path)
    assert page.count("≠ seed") == 1
    assert "≠ model" not in page
    assert "1 settings differ" in page


def test_many_epochs_are_thinned_and_the_page_says_so(tmp_path):
    folder = write_run(tmp_path / "run", epochs=5)
    rows = "".join(f"{epoch},{1 / (epoch + 1)}\n" for epoch in range(100_000))
    (folder / "metrics.csv").write_text("epoch,val/loss\n" + rows)
    page = render([folder], tmp_path)
    assert len(page) < 6_000_000
    assert "Of 100,000 epochs the chart shows" in page


@pytest.mark.slow
def test_a_thousand_runs_fit_into_a_file_that_opens(tmp_path):
    settings = grid(optimizer__lr=[0.01, 0.03, 0.1, 0.3], model__hidden=["[8]", "[16]"], seed=range(125))
    folder = write_sweep(tmp_path / "sweep", settings, list(np.random.default_rng(0).uniform(0.1, 0.2, 1000)))
    page = render([folder], tmp_path)
    assert len(page.encode()) < 15_000_000
    assert page.count("</tr>") > 1000


def test_what_auto_became_is_in_the_headline(tmp_path):
    folder = write_run(
        tmp_path / "run", settings={"model": {"hidden": [4], "loss": "auto", "output_activation": "auto"}}
    )
    record = json.loads((folder / "result.json").read_text())
    write_json(
        folder / "result.json",
        record | {"chosen": {"model.loss": "binary_cross_entropy", "model.output_activation": "sigmoid"}},
    )
    assert "sigmoid with binary_cross_entropy" in build_page([folder], folder).subtitle


def test_a_file_that_is_no_report_is_not_overwritten(tmp_path):
    folder = write_run(tmp_path / "run")
    before = (folder / "result.json").read_bytes()
    with pytest.raises(UserError, match="nothing is overwritten"):
        write_report([folder], folder / "result.json")
    assert (folder / "result.json").read_bytes() == before
    write_report([folder], folder / "report.html")
    write_report([folder], folder / "report.html")


def test_a_link_that_waits_for_the_report_is_replaced_not_followed(tmp_path):
    folder = write_run(tmp_path / "run")
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (folder / "report.html.tmp").symlink_to(precious)
    write_report([folder], folder / "report.html")
    assert precious.read_text() == "keep"
    assert not (folder / "report.html").is_symlink()


def test_half_of_a_character_does_not_keep_the_report_from_being_written(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "result.json").write_text('{"status": "failed", "error": "\\ud800 broke"}')
    write_report([folder], folder / "report.html")
    assert "? broke" in (folder / "report.html").read_text()


def tables(page):
    return [block for section in page.sections for block in section.blocks if isinstance(block, Table)]


def test_every_metric_in_a_table_is_of_an_epoch_that_is_named(tmp_path):
    """Test metrics are the best checkpoint's; what stands beside them may be the last epoch's."""
    write_run(tmp_path / "run")
    page = build_page([tmp_path / "run"], tmp_path)
    (metrics,) = [table for table in tables(page) if table.columns[0] == "metric"]
    loss = dict(zip(metrics.columns, next(row for row in metrics.rows if row[0].text == "loss"), strict=True))
    assert {head: each.text for head, each in loss.items()} == {
        "metric": "loss",
        "training (best epoch)": "0.0035",
        "validation (best epoch)": "0.08",
        "test (best epoch)": "0.0814",
        "training (last epoch)": "0.0014",
        "validation (last epoch)": "0.0827",
    }
    write_sweep(tmp_path / "sweep", grid(seed=[0, 1]), [0.3, 0.2])
    (runs,) = [table for table in tables(build_page([tmp_path / "sweep"], tmp_path)) if table.caption == "All runs"]
    assert {"best val/loss", "last val/acc", "test/acc"} <= set(runs.columns)
