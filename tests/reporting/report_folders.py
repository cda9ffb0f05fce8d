"""Folders of runs and sweeps for the tests of the report, with all files and plausible numbers."""

import base64
import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

LAYERS = ("layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias")


def picture(generator, side=8):
    file = io.BytesIO()
    Image.fromarray(generator.integers(0, 255, (side, side), dtype=np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def epoch_rows(epochs, generator):
    for epoch in range(epochs):
        fall = math.exp(-4 * epoch / epochs)
        noise = generator.lognormal(0, 0.05, 12)
        yield {
            "epoch": epoch,
            "step": 40 * (epoch + 1) - 1,
            "train/loss": (0.9 * fall + 0.002) * noise[0],
            "val/loss": (0.7 * fall + 0.08) * noise[1],
            "train/acc": 1 - 0.2 * fall,
            "val/acc": 0.97 - 0.2 * fall * noise[2],
            "lr": 0.1 * 0.9**epoch,
            "delta/output": 0.02 * fall * noise[3],
            "delta/hidden_0": 0.004 * fall * noise[4],
            "delta/hidden_1": 0.001 * fall * noise[11],
            **{f"grad/{name}": 0.5**place * fall * noise[5 + place] for place, name in enumerate(LAYERS)},
            "units/dead_hidden_0": 0.3 * (1 - fall),
            **{f"audit/{name}": 1e-7 * noise[9] if epoch % 3 == 0 else "" for name in LAYERS},
        }


def write_run(
    folder: Path, epochs=30, settings=None, overrides=(), status="finished", value=0.08, error=None, **findings
):
    """Write the folder of a run on pictures of digits; `findings` replaces entries of findings.json."""
    generator = np.random.default_rng(len(overrides) + epochs)
    (folder / ".hydra").mkdir(parents=True)
    config = {
        "data": {"name": "digits", "batch_size": 32, "loss": "cross_entropy"},
        "model": {
            "hidden": [64, 32],
            "hidden_activation": "relu",
            "output_activation": "softmax",
            "loss": "${data.loss}",
        },
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "betas": None},
        "callbacks": {"audit": {"every": 100, "warn": 0.0001, "stop": 0.01}},
        "seed": 0,
        "objective": "val/loss",
        "name": None,
        **(settings or {}),
    }
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides), allow_unicode=True))
    rows = list(epoch_rows(epochs, generator))
    if rows:
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    write_json(
        folder / "result.json",
        {
            "status": status,
            "objective": {"name": "val/loss", "value": value},
            "metrics": {
                "train/loss": 0.0014,
                "val/loss": 0.0827,
                "val/acc": 0.9778,
                "test/loss": 0.0814,
                "test/acc": 0.9741,
            },
            "best": {"train/loss": 0.0035, "val/loss": value},
            "parameters": 4810,
            "seconds": 2.7,
            "population": 1,
            "steps": 1200,
            "epochs": epochs,
            "device": "cpu",
            "audit": {"times": 12, "worst": 5e-7, "parameter": "layers.1.bias", "torch": None},
            "error": error,
            "git_commit": "0123456789abcdef",
            "versions": {"python": "3.11.7", "backhand": "0.1.0", "torch": "2.15.0"},
        },
    )
    classes = [str(digit) for digit in range(10)]
    matrix = np.diag(generator.integers(20, 30, 10)) + (generator.random((10, 10)) > 0.9)
    worst = [
        {
            "id": 7 * place,
            "target": "3",
            "prediction": "8",
            "loss": 6.0 - place,
            "probability": 0.9,
            "picture": picture(generator),
        }
        for place in range(6)
    ]
    found = {
        "classes": classes,
        "confusion": matrix.tolist(),
        "scatter": None,
        "worst": worst,
        "weights": [picture(generator) for _ in range(16)],
    }
    write_json(folder / "findings.json", found | findings)
    return folder


def write_sweep(folder: Path, settings, values, complete=True):
    """Write a sweep whose job n has `settings[n]` and the objective `values[n]`; None is a failed job."""
    folder.mkdir(parents=True)
    rows = []
    for number, (own, value) in enumerate(zip(settings, values, strict=True)):
        job = folder / str(number)
        failed = value is None
        write_run(
            job,
            epochs=0 if failed else 20,
            overrides=[f"{key}={text}" for key, text in own.items()],
            status="failed" if failed else "finished",
            value=value,
            error="optimizer.lr=9: it broke" if failed else None,
        )
        (job / "findings.json").unlink()
        rows.append(
            {
                "job": number,
                **own,
                "status": "failed" if failed else "finished",
                "best val/loss": value,
                "test/acc": 0.97,
            }
            | {"seconds": 2.7, "error": "optimizer.lr=9: it broke" if failed else ""}
        )
    (folder / "multirun.yaml").write_text("hydra: {}\n")
    write_json(folder / "sweep.json", {"sweep": {"search": "grid"}, "jobs": [], "overrides": ["seed=0,1,2"]})
    if complete:
        with (folder / "sweep.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def write_json(path: Path, record):
    path.write_text(json.dumps(record, ensure_ascii=False))


def grid(**choices):
    """All combinations of the choices; the last setting changes fastest."""
    combinations = [{}]
    for key, values in choices.items():
        combinations = [{**one, key.replace("__", "."): str(value)} for one in combinations for value in values]
    return combinations
