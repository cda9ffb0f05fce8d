"""The data sets with the real commands: images, a table and its new rows, a teacher."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import torch

from epoch import write_mnist_shaped


def one_line(result, script, reason):
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.stderr
    assert result.stderr.startswith(f"{script}: ")
    assert reason in result.stderr


def houses(rows=400):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "area": rng.normal(100, 20, rows).round(1),
            "rooms": rng.integers(1, 6, rows),
            "city": rng.choice(["Bern", "Basel", "Genf"], rows),
            "counts": rng.random(rows),
        }
    )
    table["price"] = table.area * 3 + table.rooms * 20 + (table.city == "Genf") * 50 + rng.normal(0, 5, rows)
    table["sold"] = np.where(table.price > 370, "yes", "no")
    return table


@pytest.mark.slow
def test_a_table_is_trained_on_and_new_rows_are_predicted(command, tmp_path):
    table = houses()
    table.to_csv(tmp_path / "houses.csv", index=False)
    trained = command(
        "train.py", "data=table", "data.path=houses.csv", "data.target=price", "data.ignore=[sold]",
        "data.weight=counts", "trainer.max_epochs=20", "optimizer.lr=0.01", "logger=none", "hydra.run.dir=run",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]["test/r2"] > 0.9
    other = table.rename(columns={"area": "size"})
    other.to_csv(tmp_path / "other.csv", index=False)
    resumed = command(
        "train.py", "data=table", "data.path=other.csv", "data.target=price", "data.ignore=[sold]", "logger=none",
        "data.weight=counts", "trainer.max_epochs=30", "ckpt_path=run/checkpoints/last.ckpt", "hydra.run.dir=rest",
    )  # fmt: skip
    one_line(resumed, "train.py", "was trained on another table")
    table.head(300).to_csv(tmp_path / "houses.csv", index=False)
    one_line(command("scripts/evaluate.py", "run=run"), "evaluate.py", "is not the table")
    (tmp_path / "houses.csv").unlink()  # the checkpoint stores how a row becomes an input
    new = table.sample(frac=1, random_state=1).head(50)
    new[["city", "area", "rooms"]].to_csv(tmp_path / "new.csv", index=False)
    evaluated = command("scripts/evaluate.py", "run=run", "input=new.csv", "predict=out.csv")
    assert evaluated.returncode == 0, evaluated.stderr
    predicted = pd.read_csv(tmp_path / "out.csv")
    assert list(predicted.columns) == ["id", "prediction"]
    assert np.corrcoef(predicted.prediction, new.price)[0, 1] > 0.95
    assert abs(predicted.prediction.to_numpy() - new.price.to_numpy()).mean() < 25

    # With its weights the loss is the weighted one, in the standardised units that it was trained in.
    new[["city", "area", "rooms", "price", "counts"]].to_csv(tmp_path / "whole.csv", index=False)
    evaluated = command("scripts/evaluate.py", "run=run", "input=whole.csv")
    saved = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    errors = (predicted.prediction.to_numpy() - new.price.to_numpy()) / saved["hyper_parameters"]["target_std"]
    assert f"{np.average(errors**2, weights=new.counts):.4g}" in evaluated.stdout

    saved = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    json.dumps(saved["hyper_parameters"]["preprocessing"])  # plain names and numbers

    new.assign(city="Wien").to_csv(tmp_path / "strange.csv", index=False)
    one_line(command("scripts/evaluate.py", "run=run", "input=strange.csv"), "evaluate.py", "'Wien'")
    new.assign(city=["Wien", *["Bern"] * 49], note="?").to_csv(tmp_path / "strange.csv", index=False)
    evaluated = command("scripts/evaluate.py", "run=run", "input=strange.csv", "unknown=zeros", "predict=zeros.csv")
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stdout.startswith(
        "unknown=zeros: ignored 'note', which training did not have; "
        "1 of 50 rows have categories that training did not have, encoded as zeros: 'city' ('Wien')\n"
    )
    assert pd.read_csv(tmp_path / "zeros.csv").prediction.notna().sum() == 50
    one_line(command("scripts/evaluate.py", "run=run", "unknown=zeros"), "evaluate.py", "give input=FILE, too")
    new[["city"]].to_csv(tmp_path / "short.csv", index=False)
    one_line(command("scripts/evaluate.py", "run=run", "input=short.csv"), "evaluate.py", "'area'")
    one_line(
        command("scripts/evaluate.py", "run=run", "split=test"),
        "evaluate.py",
        "houses.csv: cannot be read (No such file",
    )
    one_line(command("scripts/evaluate.py", "run=run", "input=new.csv", "split=test"), "evaluate.py", "one of the two")
    assert "0: " not in evaluated.stderr


@pytest.mark.slow
def test_predictions_name_the_classes_of_a_table(command, tmp_path):
    table = houses()
    table.to_parquet(tmp_path / "houses.parquet")
    trained = command(
        "train.py", "data=table", "data.path=houses.parquet", "data.target=sold", "data.ignore=[price,counts]",
        "trainer.max_epochs=20", "hydra.run.dir=run", "logger=none",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["chosen"] == {"model.loss": "binary_cross_entropy", "model.output_activation": "sigmoid"}
    table.head(60).to_csv(tmp_path / "new.csv", index=False)
    evaluated = command("scripts/evaluate.py", "run=run", "input=new.csv", "predict=out.csv")
    assert evaluated.returncode == 0, evaluated.stderr
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["target"] for row in rows] == list(table.sold.head(60))
    right = np.mean([row["target"] == row["prediction"] for row in rows])
    assert right > 0.9
    assert f"{right:.2%}" in evaluated.stdout
    for row in rows:
        assert float(row["probability_no"]) + float(row["probability_yes"]) == pytest.approx(1)
        assert row["prediction"] == ("yes" if float(row["probability_yes"]) > 0.5 else "no")


@pytest.mark.slow
def test_settings_that_do_not_fit_the_table_are_refused_and_no_folder_is_left(command, tmp_path):
    houses(40).assign(built="2020-01-31").to_csv(tmp_path / "houses.csv", index=False)
    for overrides, reason in (
        (["data.target=prize"], "did you mean price?"),
        (["data.target=price"], "'built'"),
        (["data.target=sold", "data.ignore=[built]", "model.output_activation=softmax"], "single output"),
        (["data.target=price", "data.ignore=[built]", "objective=val/acc"], "choose from train/loss, val/loss, val/r2"),
        (["data.target=price", "data.ignore=[built]", "model.class_weight=balanced"], "belongs to cross_entropy"),
    ):
        one_line(command("train.py", "data=table", "data.path=houses.csv", *overrides), "train.py", reason)
        assert [path.name for path in tmp_path.iterdir()] == ["houses.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["none", "shift"])
def test_images_in_mnists_own_files_are_learned(command, tmp_path, augment):
    write_mnist_shaped(tmp_path / "files", 3000, 500)
    result = command(
        "train.py", "data=mnist", "data.dir=files", f"data.augment={augment}", "optimizer=adam", "logger=none",
        "trainer.max_epochs=4", "hydra.run.dir=run",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert metrics["test/acc"] > 0.8
    evaluated = command("scripts/evaluate.py", "run=run", "predict=out.csv")
    assert f"{metrics['test/acc']:.2%}" in evaluated.stdout
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 501


@pytest.mark.slow
def test_without_files_and_without_a_network_the_message_names_the_files_and_their_folder(command, tmp_path):
    result = command("train.py", "data=kmnist", "data.dir=files", https_proxy="http://127.0.0.1:9")
    one_line(result, "train.py", "train-images-idx3-ubyte")
    assert "files/KMNIST/raw" in result.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_the_teacher_can_be_learned_exactly(command, tmp_path):
    result = command(
        "train.py", "data=teacher", "data.samples=2000", "data.features=5", "data.hidden=[3]", "model.hidden=[16]",
        "optimizer=adam", "optimizer.lr=0.01", "trainer.max_epochs=60", "scheduler=cosine", "hydra.run.dir=run",
        "logger=none", "callbacks=quiet",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]
    assert metrics["test/loss"] < 1e-4
    assert metrics["test/r2"] > 0.999
