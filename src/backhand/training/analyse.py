"""The error analysis of a finished run: its predictions on the test split, the worst of them, its first layer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backhand.calculus.backpropagation import forward, loss_value
from backhand.data.batches import Batch
from backhand.data.module import InMemoryData, RunData
from backhand.reporting import plots
from backhand.reporting.error_analysis import WORST, ErrorAnalysis, WorstSample, picture, thinned, weight_pictures
from backhand.training.module import LightningMLP


@torch.no_grad()
def analyse(module: LightningMLP, data: RunData) -> ErrorAnalysis:
    """The error analysis of the test split with the module's present weights; empty without a test split."""
    module.to(data.place().device)  # Lightning takes it off a GPU when it is done
    parts = [module.predict_step(batch, 0) | {"loss": _losses(module, batch)} for batch in data.unsharded("test")]
    if not parts:
        return ErrorAnalysis()
    found = {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}
    target, predicted = found["target"], found["prediction"]
    names, info = data.dataset.class_names or None, data.dataset.info
    confusion = scatter = None
    if names is None:
        scatter = {"target": thinned(target.flatten().tolist()), "prediction": thinned(predicted.flatten().tolist())}
    else:
        counts = torch.bincount(target * len(names) + predicted, minlength=len(names) ** 2)
        confusion = counts.view(len(names), -1).tolist()
    # NaN, of a network that has diverged, is as bad as it gets; a misclassified sample is worse than any other.
    order = found["loss"].nan_to_num(torch.inf).argsort(descending=True, stable=True)
    if names is not None:
        order = order[(target == predicted)[order].int().argsort(stable=True)]
    worst = order[:WORST].tolist()
    pixels = _pixels(data, worst) if info.image_shape is not None and isinstance(data, InMemoryData) else None
    ids = data.ids("test", len(target))
    W = next(module.model.parameters()).detach()
    shown = info.image_shape is not None and bool(torch.isfinite(W).all())
    return ErrorAnalysis(
        classes=names,
        confusion=confusion,
        scatter=scatter,
        worst=[
            WorstSample(
                id=ids[sample],
                target=_named(target[sample], names),
                prediction=_named(predicted[sample], names),
                loss=float(found["loss"][sample]),
                probability=float(found["probabilities"][sample, int(target[sample])])
                if "probabilities" in found
                else None,
                picture=None if pixels is None else picture(pixels[place]),
            )
            for place, sample in enumerate(worst)
        ],
        weights=weight_pictures(W.float().cpu().numpy(), info.image_shape) if shown and info.image_shape else None,
    )


def draw_plots(rows: Sequence[Mapping[str, float]], analysis: ErrorAnalysis, folder: Path) -> None:
    """Write curves.png, and confusion.png (classes) or predictions.png (a number).

    Without rows, as after `trainer.fast_dev_run`, for which Lightning logs nothing, there are no curves.
    """
    folder.mkdir(exist_ok=True)
    if rows:
        plots.curves(rows, folder / "curves.png")
    if analysis.classes is not None and analysis.confusion is not None:
        plots.confusion(analysis.confusion, analysis.classes, folder / "confusion.png")
    if analysis.scatter is not None:
        plots.predictions(analysis.scatter["target"], analysis.scatter["prediction"], folder / "predictions.png")


def _losses(module: LightningMLP, batch: Batch) -> Tensor:
    """The loss of each sample by itself (B,)."""
    model = module.model
    criterion, weight = model.criterion(module.loss, module.loss_parameters, batch.x)
    z_O, *_ = forward(model.network, batch.x, model.parameters_in_order())
    return loss_value(model.network, criterion, z_O.unsqueeze(1), batch.y.unsqueeze(1), weight)


def _named(value: Tensor, names: Sequence[str] | None) -> Any:
    return value.tolist() if names is None else names[int(value)]


def _pixels(data: InMemoryData, samples: Sequence[int]) -> np.ndarray:
    """Samples of the test split as they were before they were standardised (N, channels, height, width), 0 to 255."""
    dataset = data.dataset
    assert dataset.info.image_shape is not None
    x = dataset.rows["test"].x[samples]
    if dataset.centre is not None and dataset.scale is not None:
        x = x * dataset.scale + dataset.centre
        x = x * (255 / x.max())
    return x.reshape(-1, *dataset.info.image_shape).numpy()
