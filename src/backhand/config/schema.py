"""Every key of the configuration: its type, its default, its range and its meaning.

A comment beside a key is what `python train.py --help` says of it, and an annotation (`Positive`) is its range. What a
choice of a group alone has (SGD's momentum) is a key of that choice's own dataclass; `CHOICES` lists them. A file under
`conf/` holds the values of a named choice.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_submitit_launcher.config import SlurmQueueConf
from omegaconf import MISSING, OmegaConf
from pydantic import Field

from backhand.config.dataset_info import DATASETS
from backhand.config.ranges import (
    DURATION,
    Batches,
    BelowOne,
    Between,
    Count,
    Index,
    Limit,
    NotNegative,
    Positive,
    Seed,
    Size,
    WandbName,
    are_devices,
    is_duration,
    is_interval,
    is_whole,
    one_of,
    rule,
)

# Lightning's others keep a run's results in processes that they fork or spawn, or write checkpoints of their own.
STRATEGIES = (*("auto", "single_device", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"),)
PRECISIONS = ("32-true", "64-true", "bf16-true", "bf16-mixed", "16-mixed", "16-true", "32", "64", "bf16", "16")
ON_NAN = ("stop", "skip", "continue")
AUGMENTATIONS = ("none", "shift", "flip", "crop")
# The `ckpt_path` that is the newest one of the run's own folder, or none where it has none.
AUTO = "auto"


@dataclass
class DataConfig:
    """A data set, its split and its batches."""

    name: str = MISSING
    # samples a step, over all processes, or `full`: the whole training split in one step
    batch_size: Annotated[
        Any, rule(lambda size: size == "full" or (is_whole(size) and size >= 1), "a whole number, 1 or more, or full")
    ] = 32
    val_fraction: Between = 0.15  # of the samples that are split
    test_fraction: BelowOne = 0.15  # 0 where the data set has a test split of its own
    split_seed: Seed = 0  # apart from `seed`, so that runs with other seeds are tested on the same samples
    output_activation: str = MISSING  # what `model.output_activation` is unless overridden; auto: that of the task
    loss: str = MISSING  # what `model.loss` is unless overridden; auto: that of the task
    device: Annotated[str, one_of("auto", "accelerator", "cpu")] = "auto"  # where the data lie; auto: with the network


@dataclass
class ImagesConfig(DataConfig):
    """Images in files that torchvision knows."""

    dir: str = MISSING  # the folder of the files
    augment: Annotated[str, one_of(*AUGMENTATIONS)] = "none"  # what a training batch is changed by


@dataclass
class TableConfig(DataConfig):
    """A CSV or Parquet file."""

    path: str = MISSING  # the file
    target: str = MISSING  # the column to predict
    weight: str | None = None  # the column that says how much each row counts
    ignore: list[str] = field(default_factory=list)  # columns to leave out
    task: Annotated[str, one_of("auto", "classes", "number")] = "auto"  # auto decides by the target column
    missing: Annotated[str, one_of("refuse", "mean", "median")] = "refuse"  # what becomes of missing values


@dataclass
class TeacherConfig(DataConfig):
    """Inputs drawn at random, and what a fixed random network makes of them."""

    samples: Size = MISSING  # how many to draw
    features: Size = MISSING  # D
    outputs: Size = MISSING  # C
    hidden: list[Size] = MISSING  # units of each of its hidden layers


@dataclass
class CustomDataConfig(DataConfig):
    """A LightningDataModule or a torch Dataset of your own; its arguments are further keys."""

    is_open: ClassVar[bool] = True
    _target_: str = MISSING  # its class
    features: Size = MISSING  # numbers a sample, D
    classes: Annotated[int, Field(ge=2)] | None = None  # how many; null: numbers are to be predicted
    outputs: Size = 1  # without classes: how many numbers there are to predict


@dataclass
class NetworkArguments:
    """The network as `model.*` names it, for the scripts that need no data."""

    hidden: list[int] = field(default_factory=lambda: [64])  # units of each hidden layer; [] is a linear model
    hidden_activation: Any = "tanh"  # of all hidden layers, or a list with one for each
    output_activation: str | None = None  # of the last layer; null: the one that the loss is matched with
    loss: str = "cross_entropy"  # what is minimised
    label_smoothing: float | None = None  # cross_entropy
    class_weight: Any = None  # cross_entropy: one number a class, or balanced, N / (classes × N of the class)
    pos_weight: Any = None  # binary_cross_entropy: how much a positive counts, one number or one for each output
    huber_delta: float | None = None  # huber: beyond it the loss grows linearly


@dataclass
class ModelConfig(NetworkArguments):
    """The network."""

    output_activation: str = "${data.output_activation}"  # of the last layer
    loss: str = "${data.loss}"  # what is minimised
    # how the error travels back: hand (backpropagation), autograd (torch's own graph), another rule, or FILE.py:NAME
    gradient: str = "hand"
    straight_through_window: Positive = 1.0  # straight_through: |z| up to which a flat activation lets δ pass
    init: str = "linear"  # how the first weights are drawn
    init_scale: NotNegative = 1.0  # every first weight is multiplied by it


@dataclass
class OptimizerConfig:
    """θ ← θ − α ∇θ, and its relatives in torch.optim."""

    target: ClassVar[str] = ""  # the class, where no key says it
    name: str = MISSING


@dataclass
class SGDConfig(OptimizerConfig):
    """Gradient descent, with momentum."""

    target: ClassVar[str] = "torch.optim.SGD"
    lr: Positive = MISSING  # the learning rate α
    momentum: BelowOne = 0.0  # μ
    weight_decay: NotNegative = 0.0  # λ, of an L2 penalty


@dataclass
class AdamConfig(OptimizerConfig):
    """Adam."""

    target: ClassVar[str] = "torch.optim.Adam"
    lr: Positive = MISSING  # the learning rate α
    betas: Annotated[list[BelowOne], rule(lambda betas: len(betas) == 2, "two numbers")] = MISSING  # of both moments
    eps: NotNegative = MISSING  # added to the denominator
    weight_decay: NotNegative = 0.0  # λ, of an L2 penalty


@dataclass
class AdamWConfig(AdamConfig):
    """Adam, with λ θ taken off directly."""

    target: ClassVar[str] = "torch.optim.AdamW"


@dataclass
class CustomOptimizerConfig(OptimizerConfig):
    """Any other of torch's optimizers, or your own; its arguments are further keys."""

    is_open: ClassVar[bool] = True
    _target_: str = MISSING  # its class


@dataclass
class SchedulerConfig:
    """How the learning rate changes from epoch to epoch."""

    name: str = MISSING


@dataclass
class CosineConfig(SchedulerConfig):
    """From optimizer.lr down along half a cosine over trainer.max_epochs."""

    min_lr: NotNegative = 0.0  # where it ends


@dataclass
class StepConfig(SchedulerConfig):
    """Multiplied every so many epochs."""

    every: Count = MISSING  # epochs between two steps
    factor: Between = MISSING  # what the learning rate is multiplied by


@dataclass
class PlateauConfig(SchedulerConfig):
    """Multiplied when the objective has not improved."""

    factor: Between = MISSING  # what the learning rate is multiplied by
    patience: Index = MISSING  # epochs without improvement
    min_lr: NotNegative = 0.0  # it never goes below


@dataclass
class CustomSchedulerConfig(SchedulerConfig):
    """Any of torch's schedulers, or your own; its arguments are further keys."""

    is_open: ClassVar[bool] = True
    _target_: str = MISSING  # its class
    interval: Annotated[str, one_of("epoch", "step")] = "epoch"  # when it is stepped


@dataclass
class TrainerConfig:
    """The arguments of `lightning.Trainer` that can be written in a file; null leaves Lightning's own default."""

    accelerator: Annotated[str, one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu")] = "auto"
    devices: Annotated[Any, rule(are_devices, "1 or more, -1 or auto for all, or a list of their numbers")] = 1
    strategy: Annotated[str, one_of(*STRATEGIES)] = "auto"
    num_nodes: Count = 1
    precision: Annotated[Any, one_of(*PRECISIONS)] = "32-true"
    max_epochs: Limit | None = 30
    min_epochs: Index | None = None
    max_steps: Limit = -1
    min_steps: Index | None = None
    max_time: Annotated[Any, rule(lambda time: time is None or is_duration(time), f"{DURATION}, or null")] = None
    fast_dev_run: Annotated[
        Any,
        rule(lambda fast: isinstance(fast, bool) or (is_whole(fast) and fast >= 0), "true, false or a number"),
    ] = False
    limit_train_batches: Annotated[Batches, rule(lambda limit: limit != 0, "above 0, or null")] = None
    limit_val_batches: Batches = None
    limit_test_batches: Batches = None
    limit_predict_batches: Batches = None
    overfit_batches: Batches = 0.0
    val_check_interval: Annotated[
        Any,
        rule(
            lambda value: value is None or is_interval(value),
            f"a number of batches, a share of an epoch above 0.0 and at most 1.0, {DURATION}, or null",
        ),
    ] = None
    check_val_every_n_epoch: Count | None = 1
    num_sanity_val_steps: Annotated[int, Field(ge=-1)] | None = 0
    log_every_n_steps: Index | None = None
    enable_model_summary: bool | None = False
    accumulate_grad_batches: Count = 1
    gradient_clip_val: NotNegative | None = None
    gradient_clip_algorithm: Annotated[str, one_of("norm", "value")] | None = None
    deterministic: Annotated[Any, rule(lambda value: value in (None, True, False, "warn"), "true, false, warn")] = None
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    profiler: Annotated[str, one_of("simple", "advanced", "pytorch", "xla")] | None = None
    detect_anomaly: bool = False
    barebones: bool = False
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: Index = 0


@dataclass
class WandbConfig:
    """Weights & Biases: online where the user is logged in or has set a key, offline otherwise."""

    project: WandbName = "backhand"
    entity: WandbName | None = None  # the user or team
    group: str | None = None  # of runs that belong together
    mode: Annotated[str, one_of("auto", "online", "offline", "disabled")] = "auto"
    # histograms, tables, pictures and the best checkpoint; null: of a single run, and not of a sweep's
    media: bool | None = None
    histograms_every: Count | None = 10  # epochs between two histograms of z, h and δ of every layer; null: none


@dataclass
class LoggerConfig:
    """Where the metrics of every epoch go beside metrics.csv; further keys are loggers with a `_target_`."""

    is_open: ClassVar[bool] = True
    tensorboard: bool = False  # in the run's folder
    wandb: WandbConfig | None = None


@dataclass
class EarlyStoppingConfig:
    """Stop when the objective has not improved."""

    patience: Count = 10  # epochs
    min_delta: NotNegative = 0.0  # a smaller change is no improvement


@dataclass
class AuditConfig:
    """Compare the hand-derived gradients with float64 autograd while training; errors are relative."""

    every: Count = 100  # optimizer steps; the first step is always audited
    warn: Positive = 1e-4  # beyond this error, and beyond rounding: a warning
    stop: Positive = 1e-2  # beyond this one: the end of the run


@dataclass
class FlowConfig:
    """Per-layer δ, gradient norms, dead and saturated units, of a fixed batch at the end of every epoch."""

    samples: Count = 256  # of the training split


@dataclass
class CallbacksConfig:
    """What runs beside the training; further keys are callbacks with a `_target_`."""

    is_open: ClassVar[bool] = True
    progress_bar: bool = True  # in the terminal
    early_stopping: EarlyStoppingConfig | None = None
    audit: AuditConfig | None = None
    flow: FlowConfig | None = None


@dataclass
class CheckpointConfig:
    """When checkpoints/last.ckpt is written, beside the end of every epoch."""

    every_n_steps: Count | None = None  # optimizer steps between two


@dataclass
class SweepConfig:
    """What a sweep (-m) does beside its runs; who chooses the runs is `search`, who runs them `hydra/launcher`."""

    max_failures: Index | None = 0  # jobs that may fail or diverge before the exit status is 1; null: any number
    top: Count = 10  # rows of the closing table


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
    seed: Seed = 0  # of the first weights and the order of the samples
    objective: str = "val/loss"  # picks the best checkpoint, drives early stopping, is handed to the sweeper
    compile: bool = False  # forward, backward and update as one compiled function
    on_nan: Annotated[str, one_of(*ON_NAN)] = "stop"  # at a loss or gradient that is not finite: stop, skip or continue
    # fail: the exit status of a run that diverged is 1; ok: it is 0. Of a sweep sweep.max_failures says
    on_divergence: Annotated[str, one_of("fail", "ok")] = "fail"
    ckpt_path: str | None = None  # a checkpoint to begin from; auto: the newest whole one in hydra.run.dir
    plots: bool | None = None  # null: of a single run, not of a sweep's
    report: bool | None = None  # report.html; null: of a single run, and of a sweep as a whole
    name: str | None = None  # of the run, for W&B
    tags: list[str] = field(default_factory=list)  # labels of the run, for W&B
    imports: list[str] = field(default_factory=list)  # your own modules, or files FILE.py, to import first


# The dataclass of every choice of a group. One that is added here needs a file `conf/GROUP/NAME.yaml`, and no more.
CHOICES: dict[str, dict[str, type]] = {
    "data": {
        **{name: ImagesConfig if info.has_test_split else DataConfig for name, info in DATASETS.items()},
        "table": TableConfig,
        "teacher": TeacherConfig,
        "custom": CustomDataConfig,
    },
    "optimizer": {"sgd": SGDConfig, "adam": AdamConfig, "adamw": AdamWConfig, "custom": CustomOptimizerConfig},
    "scheduler": {
        "none": SchedulerConfig,
        "cosine": CosineConfig,
        "step": StepConfig,
        "plateau": PlateauConfig,
        "custom": CustomSchedulerConfig,
    },
}
# Parts that take further keys.
OPEN_PARTS: dict[str, type] = {"callbacks": CallbacksConfig, "logger": LoggerConfig}
# The optimizers whose updates are written here, for populations and the compiled step, and how many tensors each keeps
# for a parameter.
OWN_UPDATES = {"torch.optim.SGD": 1, "torch.optim.Adam": 2, "torch.optim.AdamW": 2}


@dataclass
class SlurmConfig(SlurmQueueConf):
    """The keys of `hydra.launcher` with `hydra/launcher=slurm`: submitit's, and what is ours."""

    _target_: str = "hydra_plugins.backhand_sweeps.SlurmLauncher"
    name: str = "backhand"
    timeout_min: int = 240
    cpus_per_task: int | None = 1
    array_parallelism: int = 64  # jobs at a time
    max_num_timeout: int = 10  # so often a job whose time is up is put into the queue again; a preempted one always is
    population: bool = False  # each population as a job, instead of each run
    max_runs: int | None = None  # the most runs of a population; null: as many as the node's memory holds


def _store() -> None:
    """Tell Hydra of the dataclasses, in a group of our own, whose files in conf/ name them."""
    store = ConfigStore.instance().store
    whole = OmegaConf.structured(TrainConfig)
    for part in OPEN_PARTS:
        OmegaConf.set_struct(whole[part], False)
    store(name="train", group="backhand", node=whole, provider="backhand")
    for group, choices in CHOICES.items():
        for name, kind in choices.items():
            node = OmegaConf.structured(kind)
            if getattr(kind, "is_open", False):
                OmegaConf.set_struct(node, False)
            store(name=name, group=f"backhand/{group}", node=node, provider="backhand")
    store(name="slurm", group="hydra/launcher", node=SlurmConfig, provider="backhand")


_store()
