"""Every key of the configuration: its type, its default and its meaning.

A file under `conf/` holds only what a named choice changes. Where a key belongs to some choices of a group alone (SGD's
momentum, Adam's betas), it is null in the others, and setting it there is refused.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from backhand.config.catalogue import CATALOGUE


@dataclass
class DataConfig:
    """A data set, its split and its batches."""

    name: str = MISSING
    batch_size: Any = 32  # samples a step, over all processes, or `full`: the whole training split in one step
    val_fraction: float = 0.15
    test_fraction: float = 0.15  # 0 where the data set has a test split of its own
    split_seed: int = 0  # apart from `seed`, so that runs with other seeds are tested on the same samples
    output_activation: str = MISSING  # what `model.output_activation` and `model.loss` are unless overridden; `auto`:
    loss: str = MISSING  # those of the task that the table turns out to have
    device: str = "auto"  # where the data lie: with the network if they fit (auto), or accelerator, or cpu
    dir: str | None = None  # pictures: the folder of their files
    augment: str | None = None  # pictures: what a training batch is changed by, none, shift, flip or crop
    path: str | None = None  # table: the CSV or Parquet file
    target: str | None = None  # table: the column to predict
    weight: str | None = None  # table: the column that says how much each row counts
    ignore: list[str] | None = None  # table: columns to leave out
    task: str | None = None  # table: classes or number; auto decides by the target column
    missing: str | None = None  # table: refuse missing values, or fill in the column's mean or median
    samples: int | None = None  # teacher: how many to draw
    features: int | None = None  # teacher: D
    outputs: int | None = None  # teacher: C
    hidden: list[int] | None = None  # teacher: units of each of its hidden layers


@dataclass
class ModelConfig:
    """The network."""

    hidden: list[int] = field(default_factory=lambda: [64])  # units of each hidden layer; [] is a linear model
    hidden_activation: Any = "tanh"  # of all hidden layers, or a list with one for each
    output_activation: str = "${data.output_activation}"
    loss: str = "${data.loss}"
    gradient: str = "hand"  # or autograd: the same network through torch's own graph
    init: str = "linear"
    init_scale: float = 1.0
    label_smoothing: float | None = None  # cross_entropy
    class_weight: Any = None  # cross_entropy: one number a class, or `balanced`, N / (classes × N of the class)
    pos_weight: Any = None  # binary_cross_entropy: how much a positive counts, one number or one for each output
    huber_delta: float | None = None  # huber: beyond it the loss grows linearly


@dataclass
class OptimizerConfig:
    """θ ← θ − α ∇θ, and its relatives in torch.optim."""

    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = 0.0
    momentum: float | None = None  # sgd
    betas: list[float] | None = None  # adam, adamw
    eps: float | None = None  # adam, adamw


@dataclass
class SchedulerConfig:
    """How the learning rate changes from epoch to epoch."""

    name: str = MISSING
    min_lr: float | None = None  # cosine, plateau: the learning rate it never goes below
    every: int | None = None  # step: epochs between two steps
    factor: float | None = None  # step, plateau: what the learning rate is multiplied by
    patience: int | None = None  # plateau: epochs without improvement of the objective


@dataclass
class TrainerConfig:
    """The arguments of `lightning.Trainer` that can be written in a file; null leaves Lightning's own default."""

    accelerator: str = "auto"
    devices: Any = 1
    strategy: str = "auto"
    num_nodes: int = 1
    precision: Any = "32-true"
    max_epochs: int | None = 30
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: Any = None
    fast_dev_run: Any = False
    limit_train_batches: Any = None
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    limit_predict_batches: Any = None
    overfit_batches: Any = 0.0
    val_check_interval: Any = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int | None = 0
    log_every_n_steps: int | None = None
    enable_model_summary: bool | None = False
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str | None = None
    deterministic: Any = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    profiler: str | None = None
    detect_anomaly: bool = False
    barebones: bool = False
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: int = 0


@dataclass
class WandbConfig:
    """Weights & Biases: online where the user is logged in or has set a key, offline otherwise."""

    project: str = "backhand"
    entity: str | None = None
    group: str | None = None
    mode: str = "auto"  # or online, offline, disabled
    # Histograms, tables, pictures and the best checkpoint; null: of a single run, and not of a sweep's.
    media: bool | None = None
    histograms_every: int | None = 10  # epochs between two histograms of z, h and δ of every layer; null: none


@dataclass
class LoggerConfig:
    """Where the metrics of every epoch go."""

    csv: bool = False  # metrics.csv in the run's folder
    tensorboard: bool = False
    wandb: WandbConfig | None = None


@dataclass
class EarlyStoppingConfig:
    """Stop when the objective has not improved."""

    patience: int = 10  # epochs
    min_delta: float = 0.0


@dataclass
class AuditConfig:
    """Compare the hand-derived gradients with float64 autograd while training; errors are relative."""

    every: int = 100  # optimizer steps; the first step is always audited
    warn: float = 1e-4  # beyond this error, and beyond rounding: a warning
    stop: float = 1e-2  # beyond this one: the end of the run


@dataclass
class FlowConfig:
    """Log what goes through the layers of a fixed batch, at the end of every epoch: δ, gradients, units at rest."""

    samples: int = 256  # of the training split


@dataclass
class CallbacksConfig:
    """What runs beside the training."""

    progress_bar: bool = True
    early_stopping: EarlyStoppingConfig | None = None
    audit: AuditConfig | None = None
    flow: FlowConfig | None = None


@dataclass
class CheckpointConfig:
    """When checkpoints/last.ckpt is written, beside the end of every epoch."""

    every_n_steps: int | None = None


@dataclass
class SweepConfig:
    """What a sweep (-m) does beside its runs; who chooses the runs is `search`, who runs them `hydra/launcher`."""

    max_failures: int | None = 0  # jobs that may fail or diverge before the exit status is 1; null: any number
    top: int = 10  # rows of the closing table


@dataclass
class TrainConfig:
    """The whole configuration of `train.py`."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    seed: int = 0  # initialisation and shuffling
    objective: str = "val/loss"  # picks the best checkpoint, drives early stopping, is handed to the sweeper
    compile: bool = False  # forward, backward and update as one compiled function
    on_nan: str = "stop"  # a loss or gradient that is NaN or infinite: stop, skip that step, or continue
    ckpt_path: str | None = None  # a checkpoint to go on from; `auto`: in hydra.run.dir, from the newest whole one
    plots: bool | None = None  # null: for a single run, not for a sweep's
    report: bool | None = None  # report.html; null: of a single run, and of a sweep as a whole
    name: str | None = None
    tags: list[str] = field(default_factory=list)


# The `ckpt_path` that is the newest one of the run's own folder, or none where it has none.
AUTO = "auto"

# Which of the optional keys each choice needs. It is also the list of choices.
DATA: dict[str, tuple[str, ...]] = {
    **{name: ("dir", "augment") if facts.own_test else () for name, facts in CATALOGUE.items()},
    "table": ("path", "target", "ignore", "task", "missing"),
    "teacher": ("samples", "features", "outputs", "hidden"),
}
DATA_MAY_HAVE = {"table": ("weight",)}
ON_NAN = ("stop", "skip", "continue")
AUGMENTATIONS = ("none", "shift", "flip", "crop")
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "adam": ("betas", "eps"),
    "adamw": ("betas", "eps"),
}
SCHEDULERS: dict[str, tuple[str, ...]] = {
    "none": (),
    "cosine": ("min_lr",),
    "step": ("every", "factor"),
    "plateau": ("factor", "patience", "min_lr"),
}


@dataclass
class NetworkArguments:
    """The network as `model.*` names it, for the scripts that need no data."""

    hidden: list[int] = field(default_factory=lambda: [64])
    hidden_activation: Any = "tanh"
    output_activation: str | None = None  # null: the one that the loss is matched with
    loss: str = "cross_entropy"
    label_smoothing: float | None = None
    class_weight: Any = None
    pos_weight: Any = None
    huber_delta: float | None = None


ConfigStore.instance().store(name="schema", node=TrainConfig)
