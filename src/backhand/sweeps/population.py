"""Populations: K runs with their own seeds, optimizer settings, schedules and ends, in the same tensors.

A population is a `LightningMLP` with a run axis, trained like any other. This file takes each run's part out of it, as
if the run had been trained by itself: its rows of the metrics, and its checkpoints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from torch import Tensor

from backhand.config.schema import TrainConfig
from backhand.data.module import InMemoryData
from backhand.errors import UserError
from backhand.reporting.epochs import Epochs
from backhand.reporting.result import backward_pass, best_objective, config_hash
from backhand.training.checkpoint import BEST
from backhand.training.decisions import improvements
from backhand.training.module import LightningMLP
from backhand.training.optimizers import RunsOptimizer
from backhand.training.parts import best_checkpoint

# The size of a layer's output, over all runs, in one validation batch: 32 MB in float32.
EVALUATED_AT_ONCE = 2**23
# Lightning's loops; their counters are part of a checkpoint.
LOOPS = ("fit", "validate", "test", "predict")


@dataclass
class Snapshot:
    """Parameters and optimizer state of all runs, (K, …) each, as `state_dict` has them."""

    parameters: dict[str, Tensor]
    optimizer: dict[str, Any]

    @classmethod
    def of(cls, module: LightningMLP, optimizer: torch.optim.Optimizer) -> "Snapshot":
        """A copy of the current parameters and optimizer state."""
        state = optimizer.state_dict()
        copies = {number: {k: v.clone() for k, v in each.items()} for number, each in state["state"].items()}
        groups = [{k: v.clone() if isinstance(v, Tensor) else v for k, v in g.items()} for g in state["param_groups"]]
        parameters = {name: value.clone() for name, value in module.state_dict().items()}
        return cls(parameters, {"state": copies, "param_groups": groups})

    def copy_runs(self, now: "Snapshot", runs: Tensor) -> None:
        """Copy the part of the runs (K,) that are true."""
        for mine, theirs in zip(self.tensors(), now.tensors(), strict=True):
            mine[runs] = theirs[runs].to(mine)

    def tensors(self) -> list[Tensor]:
        """The tensors with a run axis."""
        (group,) = self.optimizer["param_groups"]
        state = [value for each in self.optimizer["state"].values() for value in each.values()]
        return [*self.parameters.values(), *state, group["lr"]]


class BestOfRuns(Checkpoint):
    """Keeps each run's weights and optimizer state at its best epoch, as `ModelCheckpoint` does for one run.

    Attributes:
        best: the snapshot; each run's part is from its own best epoch.
        best_epochs: the best epoch of each run (K,).
        loops: Lightning's counters at the end of the epochs in which a run was best or ended.
    """

    def __init__(self) -> None:
        self.best: Snapshot | None = None
        self.best_epochs = torch.zeros(0, dtype=torch.long)
        self.loops: dict[int, dict[str, Any]] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best and vars(self.best), "best_epochs": self.best_epochs, "loops": self.loops}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = state_dict["best"]
        self.best = None if best is None else Snapshot(**best)
        self.best_epochs, self.loops = state_dict["best_epochs"], state_dict["loops"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Copy the runs whose objective is the best so far."""
        epoch, ends = trainer.current_epoch, [ending and ending.epochs for ending in pl_module.progress.endings]
        trained = torch.tensor([end is None or end > epoch for end in ends])
        objective = pl_module.hparams["objective"]
        if not pl_module.progress.history.has(objective):
            pass
        elif self.best is None:
            self.best = Snapshot.of(pl_module, trainer.optimizers[0])
            self.best_epochs = torch.full((len(ends),), epoch)
        else:
            improved = improvements(pl_module.progress.history.column(objective), pl_module.progress.maximize)[-1]
            if bool((better := trained & torch.as_tensor(improved)).any()):
                self.best.copy_runs(Snapshot.of(pl_module, trainer.optimizers[0]), better)
                self.best_epochs[better] = epoch
        self.loops[epoch] = {f"{name}_loop": getattr(trainer, f"{name}_loop").state_dict() for name in LOOPS}
        needed = {*self.best_epochs.tolist(), epoch, *(end - 1 for end in ends if end is not None)}
        self.loops = {at: loops for at, loops in self.loops.items() if at in needed}


@dataclass
class Population:
    """K runs that have been trained and tested.

    Attributes:
        configs: each run's configuration, completed for the data set.
        composed: each run's configuration as the user gave it, whose hash is stored in the run's folder.
        folders: the runs' folders.
        sweep: the folder of the sweep.
        module: with the weights of each run's end.
        data: the data module.
        callbacks: the callbacks that a single run would have.
        best: the snapshot of each run's best epoch.
        last: the snapshot of each run's end; None if the training failed.
        tested: the test metrics of the best weights (K,).
        seconds: the training time of all runs together.
        device: the name of the device in result.json.
        failed: why the training ended for all runs, after an epoch or more; None if it did not.
    """

    configs: list[TrainConfig]
    composed: list[TrainConfig]
    folders: list[Path]
    sweep: Path
    module: LightningMLP
    data: InMemoryData
    callbacks: list[Callback]
    best: BestOfRuns
    last: Snapshot | None
    tested: dict[str, Tensor]
    seconds: float
    device: str
    failed: UserError | None = None

    def epochs(self, run: int) -> int:
        ending = self.module.progress.endings[run]
        return len(self.module.progress.history) if ending is None else ending.epochs

    def steps(self, run: int) -> int:
        ending, rows = self.module.progress.endings[run], self.rows(run)
        if ending is not None and ending.steps is not None:
            return ending.steps
        return int(rows[-1]["step"]) + 1 if rows else 0

    def rows(self, run: int) -> Epochs:
        """The metrics of the run's epochs, as in its metrics.csv."""
        return self.module.progress.history.of_run(run, self.epochs(run))

    def find(self, kind: type) -> Any:
        """The callback of a class, or None."""
        return next((each for each in self.callbacks if isinstance(each, kind)), None)

    def checkpoint(self, run: int, which: Literal["best", "last"]) -> dict[str, Any] | None:
        """The checkpoint that one run would have written by itself; None if it has no such epoch."""
        epochs = self.epochs(run)
        snapshot = self.best.best if which == "best" else self.last
        epoch = int(self.best.best_epochs[run]) if which == "best" and snapshot is not None else epochs - 1
        if snapshot is None or not 0 <= epoch < epochs:
            return None
        progress, config = self.module.progress, self.configs[run]
        rows, ending, first_loss = progress.history.of_run(run, epoch + 1), progress.endings[run], progress.first_loss
        states = {
            each.state_key: {
                name: [v[run]] if isinstance(v, list) and v else v for name, v in each.state_dict().items()
            }
            for each in self.callbacks
            if each.state_dict()
        }
        states |= best_state(config, self.folders[run], rows)
        return {
            "epoch": epoch,
            "global_step": rows[-1]["step"] + 1,
            "pytorch-lightning_version": L.__version__,
            "state_dict": {name: value[run].cpu().clone() for name, value in snapshot.parameters.items()},
            "loops": self.best.loops[epoch],
            "callbacks": states,
            type(self.data).__qualname__: {"done": 0, "epoch": epoch},  # the end of an epoch
            "optimizer_states": [RunsOptimizer.of_run(snapshot.optimizer, run)],
            "lr_schedulers": [],
            "hparams_name": "kwargs",
            "hyper_parameters": self.module.hparams_of_run(run),
            "run": {
                "history": rows.state(),
                "row": {},
                "sums": [{"totals": {}, "kept": {}}],
                "first_loss": None if first_loss is None else first_loss[run].cpu().clone(),
                "endings": [None if ending is None or ending.epochs > epoch + 1 else vars(ending)],
            },
            "own_folder": {
                "config_hash": config_hash(self.composed[run]),
                "backward_pass": backward_pass(self.composed[run]),
                "data": self.data.dataset.digest,
                "first_epoch": 0,
                "seconds": self.seconds / len(self.configs),
                "wandb_id": None,
            },
        }


def best_state(config: TrainConfig, folder: Path, rows: Epochs) -> dict[str, Any]:
    """The state of a run's `ModelCheckpoint` after these epochs."""
    callback, path = best_checkpoint(config, folder), str(folder / BEST)
    score = torch.tensor(best_objective(rows, config.objective))
    state = {
        "best_model_path": path,
        "kth_best_model_path": path,
        "best_k_models": {path: score},
        "best_model_score": score,
        "current_score": score,
        "kth_value": score,
    }
    return {callback.state_key: callback.state_dict() | state}


def rows_at_once(runs: int, sizes: Sequence[int]) -> int:
    """The number of samples in one validation batch."""
    return max(1, EVALUATED_AT_ONCE // (runs * max(sizes)))
