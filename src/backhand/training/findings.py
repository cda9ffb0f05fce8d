"""The pictures of one finished run, from its epochs and its predictions on the test split."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer

from backhand.data.module import InMemoryData
from backhand.reporting import plots
from backhand.training.module import LightningMLP


def draw(
    trainer: Trainer, module: LightningMLP, data: InMemoryData, rows: Sequence[Mapping[str, float]], folder: Path
) -> None:
    """Write curves.png, and confusion.png (classes) or predictions.png (a number)."""
    folder.mkdir(exist_ok=True)
    plots.curves(rows, folder / "curves.png")
    target, predicted = _predictions(module, data)
    if module.classes is None:
        plots.predictions(target, predicted, folder / "predictions.png")
    else:
        plots.confusion(target, predicted, data.dataset.class_names, folder / "confusion.png")


@torch.no_grad()
def _predictions(module: LightningMLP, data: InMemoryData) -> tuple[np.ndarray, np.ndarray]:
    target, predicted = [], []
    module.to(data.place().device)  # Lightning takes it off a GPU when it is done
    for batch in data.test_dataloader():
        found = module.predict_step(batch, 0)
        target.append(found["target"].cpu().numpy())
        predicted.append(found["prediction"].cpu().numpy())
    return np.concatenate(target), np.concatenate(predicted)
