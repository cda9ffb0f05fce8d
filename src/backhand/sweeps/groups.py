"""Which jobs of a sweep can be trained as one population, how many fit into memory, and why the others cannot."""

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
from backhand.config.validation import extra_keys
from backhand.reporting.result import settings_without
from backhand.sweeps.jobs import PER_RUN, Job

# The trainer's arguments that mean the same for a population as for a single run. Clipping does not: its norm would be
# that of the gradients of all runs together.
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
# The share of the free memory that a population may use.
SHARE_OF_MEMORY = 0.5


def obstacle(config: TrainConfig) -> str | None:
    """Why a run cannot be part of a population; None if it can."""
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
        if own := extra_keys(getattr(config, group), kind):
            return f"{group}.{next(iter(own))}"
    given, default = asdict(config.trainer), asdict(TrainerConfig())
    for key, value in given.items():
        if key not in SHARED_WITH_A_RUN and value != default[key]:
            return f"trainer.{key}={value}"
    if str(config.trainer.precision) not in ("32-true", "32", "64-true", "64"):
        return f"trainer.precision={config.trainer.precision}"
    return None


def divided(jobs: Sequence[Job]) -> tuple[list[list[Job]], dict[int, str]]:
    """The jobs that form populations, and for each other job, by its number, the reason why it runs by itself."""
    reasons: dict[int, str] = {}
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if (reason := obstacle(job.config)) is not None:
            reasons[job.number] = f"{reason} is not for populations"
        elif (job.folder / "checkpoints").exists():
            reasons[job.number] = "is resumed from its own checkpoint"
        else:
            # As text, because `limit_train_batches=1` (one batch) differs from `limit_train_batches=1.0` (all batches).
            groups[repr(settings_without(job.config, PER_RUN))].append(job)
    reasons |= {group[0].number: "no other job has the same shape" for group in groups.values() if len(group) == 1}
    return [group for group in groups.values() if len(group) > 1], reasons


def bytes_a_run(sizes: Sequence[int], batch: int, samples: int, states: int, itemsize: int) -> int:
    """Bytes that one run of a population needs: parameters, gradients, optimizer, copies, and a step's activations.

    Args:
        sizes: [D, H, …, C].
        batch: samples a step.
        samples: the size of the training split; each run has its own order of them.
        states: the optimizer's state tensors per parameter.
        itemsize: bytes per number.
    """
    parameters = sum(n * m + m for n, m in pairwise(sizes))
    copies = 3 * (1 + states) + 3  # current, best and last; and temporary: gradient, update, float64 audit
    activations = 4 * batch * sum(sizes)
    return itemsize * (copies * parameters + activations) + 8 * samples


def free_memory() -> int:
    """Bytes that are available without swapping; 4 GB if the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 4 * 2**30
