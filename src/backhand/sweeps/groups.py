"""Which jobs of a sweep can be trained as one population, how many at a time, and why the others cannot."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from backhand.config.schema import (
    AUTO,
    OWN_UPDATES,
    CallbacksConfig,
    CustomDataConfig,
    CustomSchedulerConfig,
    LoggerConfig,
    TrainConfig,
    TrainerConfig,
)
from backhand.config.validation import own_keys
from backhand.reporting.result import settings_without
from backhand.sweeps.jobs import PER_RUN, Job

# The arguments of the trainer that mean the same to a population as to a run of its own. Clipping does not: its norm is
# that of all gradients together.
SHARED_WITH_A_RUN = (
    "accelerator",
    "precision",
    "max_epochs",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "deterministic",
    "benchmark",
    "inference_mode",
    "enable_model_summary",
    "accumulate_grad_batches",
    "check_val_every_n_epoch",
    "num_sanity_val_steps",
    "use_distributed_sampler",
)
# How much of the free memory a population may take.
SHARE_OF_MEMORY = 0.5


def obstacle(config: TrainConfig) -> str | None:
    """Why a run cannot be one of a population; None where it can."""
    if config.ckpt_path not in (None, AUTO):
        return f"ckpt_path={config.ckpt_path}"
    if (augment := getattr(config.data, "augment", "none")) != "none":
        return f"data.augment={augment}"
    if config.optimizer.target not in OWN_UPDATES:
        return f"optimizer={config.optimizer.name}"
    for group, part in (("data", config.data), ("scheduler", config.scheduler)):
        if isinstance(part, CustomDataConfig | CustomSchedulerConfig):
            return f"{group}={part.name}"
    for group, kind in (("callbacks", CallbacksConfig), ("logger", LoggerConfig)):
        if own := own_keys(getattr(config, group), kind):
            return f"{group}.{next(iter(own))}"
    given, default = asdict(config.trainer), asdict(TrainerConfig())
    for key, value in given.items():
        if key not in SHARED_WITH_A_RUN and value != default[key]:
            return f"trainer.{key}={value}"
    if str(config.trainer.precision) not in ("32-true", "32", "64-true", "64"):
        return f"trainer.precision={config.trainer.precision}"
    return None


def divided(jobs: Sequence[Job]) -> tuple[list[list[Job]], dict[int, str]]:
    """The populations that the jobs make, and by number why the others run one by one."""
    alone: dict[int, str] = {}
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if (reason := obstacle(job.config)) is not None:
            alone[job.number] = f"{reason} is not for populations"
        elif (job.folder / "checkpoints").exists():
            alone[job.number] = "goes on from its own checkpoint"
        else:
            # As text, where `limit_train_batches=1` (one batch) is not `limit_train_batches=1.0` (all of them).
            groups[repr(settings_without(job.config, PER_RUN))].append(job)
    alone |= {group[0].number: "no other job has its shape" for group in groups.values() if len(group) == 1}
    return [group for group in groups.values() if len(group) > 1], alone


def bytes_a_run(sizes: Sequence[int], batch: int, samples: int, states: int, itemsize: int) -> int:
    """What one run of a population takes: parameters, gradients, optimizer and their copies, and a step's activations.

    Args:
        sizes: [D, H, …, C].
        batch: samples a step.
        samples: of the training split, whose order each run has.
        states: tensors that the optimizer keeps for each parameter.
        itemsize: bytes of a number.
    """
    parameters = sum(n * m + m for n, m in pairwise(sizes))
    copies = 3 * (1 + states) + 3  # now, best and last; gradient, update and float64 audit in passing
    activations = 4 * batch * sum(sizes)
    return itemsize * (copies * parameters + activations) + 8 * samples


def free_memory() -> int:
    """Bytes that can be had without swapping; a guess of 4 GB where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 2**30
