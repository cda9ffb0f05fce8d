"""Every key of the configuration, with type, default, range and meaning.

The comment of a key is its text in `python train.py --help`, and its annotation (`Positive`) is its range. Keys of only
one choice (SGD's momentum) are in its dataclass; `CHOICES` lists them. The files in `conf/` have the values of
each choice.
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
    Count,
    Fraction,
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

# Lightning's other strategies keep results in forked or spawned processes, or write their own checkpoints.
STRATEGIES = (*("auto", "single_device", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true"),)
PRECISIONS = ("32-true", "64-true", "bf16-true", "bf16-mixed", "16-mixed", "16-true", "32", "64", "bf16", "16")
ON_NAN = ("stop", "skip", "continue")
AUGMENTATIONS = ("none", "shift", "flip", "crop")
# `ckpt_path=auto` is the newest checkpoint in the folder of the run, or none if there is none.
AUTO = "auto"


@dataclass
class DataConfig:
    """A data set, its split and its batches."""

    name: str = MISSING
    # samples per step, over all processes; full: the whole training split
    batch_size: Annotated[
        Any, rule(lambda size: size == "full" or (is_whole(size) and size >= 1), "a whole number, 1 or more, or full")
    ] = 32
    val_fraction: Fraction = 0.15  # fraction of the samples for validation
    test_fraction: BelowOne = 0.15  # fraction for the test; 0 if the data set has its own test split
    split_seed: Seed = 0  # separate from seed, so that runs with other seeds have the same test samples
    output_activation: str = MISSING  # the default of model.output_activation; auto: by the task
    loss: str = MISSING  # the default of model.loss; auto: by the task
    device: Annotated[str, one_of("auto", "accelerator", "cpu")] = "auto"  # where data are kept; auto: GPU if they fit


@dataclass
class ImagesConfig(DataConfig):
    """Images that torchvision downloads."""

    dir: str = MISSING  # the folder of the files
    augment: Annotated[str, one_of(*AUGMENTATIONS)] = "none"  # random change of training images


@dataclass
class TableConfig(DataConfig):
    """A CSV or Parquet file."""

    path: str = MISSING  # the file
    target: str = MISSING  # the column to predict
    weight: str | None = None  # the column of sample weights
    ignore: list[str] = field(default_factory=list)  # columns to leave out
    task: Annotated[str, one_of("auto", "classes", "number")] = "auto"  # auto: decided by the target column
    missing: Annotated[str, one_of("refuse", "mean", "median")] = "refuse"  # how missing values are filled


@dataclass
class TeacherConfig(DataConfig):
    """Random inputs, and the outputs of a fixed random network as targets."""

    samples: Size = MISSING  # number of samples to draw
    features: Size = MISSING  # numbers per sample, D
    outputs: Size = MISSING  # number of targets, C
    hidden: list[Size] = MISSING  # units of each hidden layer of the teacher


@dataclass
class CustomDataConfig(DataConfig):
    """Your own LightningDataModule or torch Dataset; its arguments are further keys."""

    is_open: ClassVar[bool] = True
    _target_: str = MISSING  # the class
    features: Size = MISSING  # numbers per sample, D
    classes: Annotated[int, Field(ge=2)] | None = None  # number of classes; null: a regression
    outputs: Size = 1  # number of targets of a regression


@dataclass
class NetworkArguments:
    """The network arguments `model.*` for scripts without data."""

    hidden: list[int] = field(default_factory=lambda: [64])  # units of each hidden layer; [] is a linear model
    hidden_activation: Any = "tanh"  # activation of all hidden layers, or a list with one per layer
    output_activation: str | None = None  # activation of the last layer; null: the one that matches the loss
    loss: str = "cross_entropy"  # the loss function
    label_smoothing: float | None = None  # cross_entropy: smoothing of the target probabilities
    class_weight: Any = None  # cross_entropy: one number per class, or balanced, N / (classes × N of the class)
    pos_weight: Any = None  # binary_cross_entropy: weight of positives, one number or one per output
    huber_delta: float | None = None  # huber: error beyond which the loss is linear


@dataclass
class ModelConfig(NetworkArguments):
    """The network."""

    output_activation: str = "${data.output_activation}"  # activation of the last layer
    loss: str = "${data.loss}"  # the loss function
    # the backward pass: hand (backpropagation), autograd (torch's graph), another rule, or FILE.py:NAME
    gradient: str = "hand"
    straight_through_window: Positive = 1.0  # straight_through: |z| up to which a flat activation passes δ on
    init: str = "linear"  # how weights are initialised
    init_scale: NotNegative = 1.0  # factor of all initial weights


@dataclass
class OptimizerConfig:
    """θ ← θ − α ∇θ, and other optimizers of torch.optim."""

    target: ClassVar[str] = ""  # the class, unless `_target_` names it
    name: str = MISSING


@dataclass
class SGDConfig(OptimizerConfig):
    """Gradient descent, with momentum."""

    target: ClassVar[str] = "torch.optim.SGD"
    lr: Positive = MISSING  # the learning rate α
    momentum: BelowOne = 0.0  # momentum μ
    weight_decay: NotNegative = 0.0  # λ of the L2 penalty


@dataclass
class AdamConfig(OptimizerConfig):
    """Adam."""

    target: ClassVar[str] = "torch.optim.Adam"
    lr: Positive = MISSING  # the learning rate α
    betas: Annotated[list[BelowOne], rule(lambda betas: len(betas) == 2, "two numbers")] = MISSING  # for both moments
    eps: NotNegative = MISSING  # added to the denominator
    weight_decay: NotNegative = 0.0  # λ of the L2 penalty


@dataclass
class AdamWConfig(AdamConfig):
    """Adam with decoupled weight decay λ θ."""

    target: ClassVar[str] = "torch.optim.AdamW"


@dataclass
class CustomOptimizerConfig(OptimizerConfig):
    """Another optimizer of torch, or your own; its arguments are further keys."""

    is_open: ClassVar[bool] = True
    _target_: str = MISSING  # the class


@dataclass
class SchedulerConfig:
    """How the learning rate changes from epoch to epoch."""

    name: str = MISSING


@dataclass
class CosineConfig(SchedulerConfig):
    """Half a cosine from optimizer.lr down to min_lr over trainer.max_epochs."""

    min_lr: NotNegative = 0.0  # the lowest learning rate


@dataclass
class StepConfig(SchedulerConfig):
    """Multiply the learning rate by a factor every few epochs."""

    every: Count = MISSING  # epochs between two steps
    factor: Fraction = MISSING  # factor of the learning rate


@dataclass
class PlateauConfig(SchedulerConfig):
    """Multiply the learning rate by a factor when the objective does not improve."""

    factor: Fraction = MISSING  # factor of the learning rate
    patience: Index = MISSING  # epochs without improvement
    min_lr: NotNegative = 0.0  # the lowest learning rate


@dataclass
class CustomSchedulerConfig(SchedulerConfig):
    """Another scheduler of torch, or your own; its arguments are further keys."""

    is_open: ClassVar[bool] = True
    _target_: str = MISSING  # the class
    interval: Annotated[str, one_of("epoch", "step")] = "epoch"  # when the scheduler steps


@dataclass
class TrainerConfig:
    """Arguments of `lightning.Trainer`, as in trainer.max_epochs=5; null is Lightning's default."""

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
            f"a number of batches, a fraction of an epoch above 0.0 and at most 1.0, {DURATION}, or null",
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
    barebones: Annotated[
        bool, rule(lambda bare: not bare, "false, because Lightning would write no metrics and no checkpoints")
    ] = False
    sync_batchnorm: bool = False
    reload_dataloaders_every_n_epochs: Index = 0


@dataclass
class WandbConfig:
    """Weights & Biases: online if you are logged in or have set a key, otherwise offline."""

    project: WandbName = "backhand"  # the project
    entity: WandbName | None = None  # the user or team
    group: str | None = None  # a name for runs that belong together
    # auto: online if you are logged in
    mode: Annotated[str, one_of("auto", "online", "offline", "disabled")] = "auto"
    # histograms, tables, pictures and the best checkpoint; null: only for single runs, not in sweeps
    media: bool | None = None
    histograms_every: Count | None = 10  # epochs between two histograms of z, h and δ of every layer; null: none


@dataclass
class LoggerConfig:
    """Loggers besides metrics.csv; further keys are loggers with a `_target_`."""

    is_open: ClassVar[bool] = True
    tensorboard: bool = False  # write TensorBoard files to the run's folder
    wandb: WandbConfig | None = None


@dataclass
class EarlyStoppingConfig:
    """Stop when the objective does not improve."""

    patience: Count = 10  # epochs without improvement
    min_delta: NotNegative = 0.0  # smaller changes are not an improvement


@dataclass
class AuditConfig:
    """Compare the hand-derived gradients with float64 autograd while training; errors are relative."""

    every: Count = 100  # optimizer steps; the first step is always audited
    warn: Positive = 1e-4  # a larger error, beyond rounding, is a warning
    stop: Positive = 1e-2  # a larger error stops the run


@dataclass
class FlowConfig:
    """Per-layer δ, gradient norms, dead and saturated units, for a fixed batch after every epoch."""

    samples: Count = 256  # number of training samples


@dataclass
class CallbacksConfig:
    """Callbacks of the training; further keys are callbacks with a `_target_`."""

    is_open: ClassVar[bool] = True
    progress_bar: bool = True  # in the terminal
    early_stopping: EarlyStoppingConfig | None = None
    audit: AuditConfig | None = None
    flow: FlowConfig | None = None


@dataclass
class CheckpointConfig:
    """Also write checkpoints/last.ckpt within an epoch; it is written after the first and the last one anyway."""

    every_n_steps: Count | None = None  # optimizer steps between two writes


@dataclass
class SweepConfig:
    """Settings of a sweep (-m); `search` chooses the runs, and `hydra/launcher` executes them."""

    max_failures: Index | None = 0  # jobs that may fail or diverge before the exit status is 1; null: any number
    top: Count = 10  # rows of the final table


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
    seed: Seed = 0  # for the initial weights and the order of the samples
    objective: str = "val/loss"  # selects the best checkpoint, controls early stopping, is returned to the sweeper
    compile: bool = False  # forward, backward and update as one compiled function
    on_nan: Annotated[str, one_of(*ON_NAN)] = "stop"  # if a loss or gradient is not finite
    # the exit status of a run that diverged: 1 (fail) or 0 (ok); for sweeps see sweep.max_failures
    on_divergence: Annotated[str, one_of("fail", "ok")] = "fail"
    ckpt_path: str | None = None  # a checkpoint to start from; auto: the newest complete one in hydra.run.dir
    plots: bool | None = None  # draw plots; null: only for single runs, not in sweeps
    report: bool | None = None  # report.html; null: for single runs, and one for a whole sweep
    name: str | None = None  # name of the run, for W&B
    tags: list[str] = field(default_factory=list)  # labels of the run, for W&B
    imports: list[str] = field(default_factory=list)  # your own modules, or files FILE.py, to import first


# The dataclass of every choice of a group. A new choice needs an entry here and a file `conf/GROUP/NAME.yaml`.
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
# Parts that accept further keys.
OPEN_PARTS: dict[str, type] = {"callbacks": CallbacksConfig, "logger": LoggerConfig}
# Optimizers that populations and the compiled step implement, and the number of state tensors per parameter.
OWN_UPDATES = {"torch.optim.SGD": 1, "torch.optim.Adam": 2, "torch.optim.AdamW": 2}


@dataclass
class SlurmConfig(SlurmQueueConf):
    """The keys of `hydra.launcher` with `hydra/launcher=slurm`: those of submitit, and ours."""

    _target_: str = "hydra_plugins.backhand_sweeps.SlurmLauncher"
    name: str = "backhand"
    timeout_min: int = 240
    cpus_per_task: int | None = 1
    array_parallelism: int = 64  # jobs at a time
    max_num_timeout: int = 10  # how often a job that timed out is requeued; preempted jobs always are
    population: bool = False  # one job per population instead of one per run
    max_runs: int | None = None  # largest number of runs per population; null: limited by the node's memory


def _store() -> None:
    """Register the dataclasses with Hydra, in the group `backhand` that the files in conf/ refer to."""
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
