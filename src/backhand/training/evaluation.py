"""What `evaluate` does once torch has been imported."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console

from backhand.config.errors import UserError
from backhand.config.schema import TrainConfig
from backhand.data.module import Split
from backhand.reporting.terminal import metrics_table
from backhand.training.checkpoint import load
from backhand.training.module import LightningMLP
from backhand.training.train import build_data, quiet_lightning


def evaluate_checkpoint(
    config: TrainConfig, checkpoint: Path, split: Split
) -> tuple[dict[str, float], list[list[Any]]]:
    """Print a checkpoint's metrics on a split of its run's data.

    Returns:
        The metrics, and the predictions as rows under a header: id, target, prediction, a probability a class.

    Raises:
        UserError: the checkpoint is damaged, or of another network than its run's.
    """
    quiet_lightning()
    contents = load(checkpoint, key="run")
    data = build_data(config)
    try:
        module = LightningMLP(**contents["hyper_parameters"])
        module.load_state_dict(contents["state_dict"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"run={checkpoint}: does not fit this program ({' '.join(str(error).split())})") from None
    trainer = L.Trainer(
        accelerator="auto",
        devices=1,
        precision=config.trainer.precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = data.evaluation_dataloader(split)
    tested = trainer.test(module, batches, verbose=False)[0]
    metrics = {name.replace("test/", f"{split}/"): value for name, value in tested.items()}
    predictions = trainer.predict(module, batches)
    assert predictions is not None
    found = {name: torch.cat([batch[name] for batch in predictions]) for name in predictions[0]}
    console = Console()
    console.print(f"{config.data.name}, {split} split: {len(found['target'])} samples", style="bold")
    console.print(metrics_table(metrics))

    columns = ["id", "target", "prediction"]
    rows = [data.part(split).ids.tolist(), found["target"].tolist(), found["prediction"].tolist()]
    if "probabilities" in found:
        columns += [f"probability_{name}" for name in data.class_names]
        rows += found["probabilities"].float().T.tolist()
    return metrics, [columns, *(list(row) for row in zip(*rows, strict=True))]
