"""The table of epochs, result.json, the plots and the summary."""

import csv
import json
import math
import warnings

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from backhand.config import files
from backhand.errors import UserError
from backhand.reporting import plots
from backhand.reporting.loggers import EpochTable, descriptive_name
from backhand.reporting.result import NOT_HASHED, Result, best_row, config_hash, write_result
from backhand.reporting.spreadsheet import escape_formula, unescape_formula
from backhand.reporting.terminal import metrics_table, print_summary


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_training_and_validation_metrics_become_one_row(tmp_path):
    table = EpochTable(tmp_path / "metrics.csv")
    for epoch in range(2):
        table.log_metrics({"val/loss": 2.0 + epoch, "epoch": epoch}, step=9)
        table.log_metrics({"train/loss": 1.0 + epoch, "epoch": epoch}, step=9)
    assert [row["epoch"] for row in read(tmp_path / "metrics.csv")] == ["0"]  # without the current epoch
    table.log_metrics({"test/loss": 5.0, "epoch": 2}, step=18)
    table.finalize("success")
    rows = read(tmp_path / "metrics.csv")
    assert [(row["val/loss"], row["train/loss"]) for row in rows] == [("2.0", "1.0"), ("3.0", "2.0")]


def test_a_later_metric_gets_a_column_and_no_row_is_lost(tmp_path):
    table = EpochTable(tmp_path / "metrics.csv")
    table.log_metrics({"train/loss": 1.0, "epoch": 0}, step=1)
    table.log_metrics({"train/loss": 0.5, "val/loss": 0.7, "epoch": 1}, step=2)
    table.finalize("success")
    assert [row["val/loss"] for row in read(tmp_path / "metrics.csv")] == ["", "0.7"]
    assert [row["train/loss"] for row in read(tmp_path / "metrics.csv")] == ["1.0", "0.5"]


def test_a_disk_error_while_a_column_is_added_keeps_the_earlier_rows(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    table = EpochTable(tmp_path / "metrics.csv")
    table.log_metrics({"train/loss": 1.0, "epoch": 0}, step=1)
    table.log_metrics({"train/loss": 0.5, "val/loss": 0.7, "epoch": 1}, step=2)
    monkeypatch.setattr(files, "fsync", full)
    with pytest.raises(UserError, match=r"metrics.csv: cannot be written \(No space left on device\)"):
        table.finalize("success")
    assert [row["train/loss"] for row in read(tmp_path / "metrics.csv")] == ["1.0"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_result_json_is_valid_json_if_numbers_are_not_finite(tmp_path, configured):
    result = Result("diverged", {"name": "val/loss", "value": math.inf}, {"val/loss": math.nan, "val/acc": 0.5})
    write_result(result, configured(), tmp_path)
    record = json.loads((tmp_path / "result.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert record["metrics"] == {"val/loss": None, "val/acc": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


# Each key of `NOT_HASHED` with a value other than the default, except `ckpt_path`, which needs a file.
NOT_COMPUTED = (
    *("checkpoint.every_n_steps=3", "plots=true", "report=true", "name=x", "tags=[x]", "logger=none", "sweep.top=3"),
    "on_divergence=ok",
    *("callbacks.progress_bar=false", "callbacks.audit.every=1", "callbacks.flow.samples=9", "data.device=cpu"),
    *("trainer.enable_model_summary=true", "trainer.profiler=simple", "trainer.log_every_n_steps=1"),
    *("trainer.num_sanity_val_steps=2", "trainer.limit_predict_batches=1", "trainer.inference_mode=false"),
)


def test_every_setting_that_is_not_hashed_is_tested():
    tried = {each.partition("=")[0] for each in NOT_COMPUTED} | {"ckpt_path"}
    assert all(any(each.startswith(key) for each in tried) for key in NOT_HASHED)
    assert len(tried) == len(NOT_HASHED)


def test_settings_that_are_not_hashed_change_no_number(trained):
    found = []
    for others in (["callbacks.audit=null", "callbacks.flow=null"], NOT_COMPUTED):
        folder = trained("data=wine", "trainer.max_epochs=2", "callbacks=default", *others)
        saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        found.append((json.loads((folder / "result.json").read_text()), saved["state_dict"]))
    (record, weights), (other_record, other_weights) = found
    for key in ("status", "objective", "metrics", "best", "steps", "epochs", "config_hash"):
        assert record[key] == other_record[key], key
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_the_hash_depends_only_on_settings_that_affect_the_result(configured):
    base = config_hash(configured())
    for other in NOT_COMPUTED:
        assert config_hash(configured(other)) == base, other
    assert config_hash(configured("optimizer.lr=0.05")) != base
    assert config_hash(configured("seed=1")) != base


def test_the_plots_show_their_data(tmp_path, monkeypatch):
    drawn = []
    save = plots.Figure.savefig
    monkeypatch.setattr(
        plots.Figure, "savefig", lambda *given, **options: drawn.append(given[0]) or save(*given, **options)
    )
    rows = [{"epoch": e, "train/loss": 1 / (e + 1), "val/loss": 2.0, "val/acc": 0.5} for e in range(3)]
    plots.curves(rows, tmp_path / "a.png")
    loss, accuracy = drawn[0].axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[1, 1 / 2, 1 / 3], [2, 2, 2]]
    assert [line.get_xdata().tolist() for line in accuracy.lines] == [[1, 2, 3]]
    plots.confusion([[1, 1], [0, 1]], ["no", "yes"], tmp_path / "b.png")
    assert drawn[1].axes[0].images[0].get_array().tolist() == [[1, 1], [0, 1]]
    assert [label.get_text() for label in drawn[1].axes[0].get_yticklabels()] == ["no", "yes"]
    plots.predictions([1.0, 2.0, math.nan], [2.5, 1.5, 3.0], tmp_path / "c.png")
    assert drawn[2].axes[0].collections[0].get_offsets().tolist() == [[2.5, 1], [1.5, 2]]  # predicted, true


def test_without_a_best_epoch_the_last_one_is_shown(tmp_path, capsys):
    rows = [{"epoch": 0, "train/loss": 0.5, "val/loss": math.nan}, {"epoch": 1, "train/loss": 0.25}]
    assert best_row(rows, "val/loss") is None
    assert best_row(rows, "train/loss") is rows[1]
    metrics = {"train/loss": 0.25, "test/loss": 0.75}
    print_summary(Result("finished", {"name": "val/loss", "value": None}, metrics, epochs=2), tmp_path, None)
    printed = capsys.readouterr().out
    assert "best epoch" not in printed
    assert all(word in printed for word in ("0.25", "0.75", "epochs"))


def test_any_class_name_can_be_plotted(tmp_path):
    names = ["$\\frac{$", "\x1b[31m\a", "\u732b", "x" * 500, "a\nb"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.confusion(np.eye(len(names), dtype=int).tolist(), names, tmp_path / "confusion.png")
    assert imread(tmp_path / "confusion.png").shape[0] < 2000


def test_the_summary_has_one_column_per_split():
    table = metrics_table({"val/loss": 0.5, "test/loss": 0.25, "test/acc": 0.975})
    assert [column.header for column in table.columns] == ["", "val", "test"]
    assert [list(column.cells) for column in table.columns] == [["loss", "acc"], ["0.5", ""], ["0.25", "97.50%"]]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "digits 64 tanh sgd lr=0.1 seed=0"),
        (
            ["data=wine", "model.hidden=[16,8]", "model.hidden_activation=[relu,tanh]", "seed=3"],
            "wine 16-8 relu-tanh sgd lr=0.1 seed=3",
        ),
        (
            ["model.hidden=[]", "optimizer=custom", "optimizer._target_=torch.optim.Rprop"],
            "digits linear tanh Rprop seed=0",
        ),
    ],
)
def test_a_run_without_a_name_gets_a_descriptive_one(configured, overrides, name):
    assert descriptive_name(configured(*overrides)) == name


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-cmd|'x'!A0", "@SUM(1)", "\t=1", "\r=1", "\n =1", "\uff1d1", "'=1", "''@x"]
)
def test_text_that_would_be_a_formula_is_escaped_and_can_be_read_again(text):
    assert escape_formula(text) == f"'{text}"
    assert unescape_formula(escape_formula(text)) == text


@pytest.mark.parametrize("value", [-1.5, None, "-1.5", "+2e-3", "-inf", "", "a=1", "'quoted'"])
def test_other_values_are_not_escaped(value):
    assert escape_formula(value) == value
    assert unescape_formula(str(value)) == str(value)
