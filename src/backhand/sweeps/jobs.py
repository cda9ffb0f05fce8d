"""The jobs of a sweep: their configurations are composed and checked before the first job runs."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from backhand.config.errors import USER_ERRORS, one_line
from backhand.config.imports import split_gradient
from backhand.config.schema import TrainConfig
from backhand.config.stored import is_outside
from backhand.config.validation import apply_schema, check_config, check_table_file
from backhand.errors import UserError
from backhand.reporting.result import config_hash, is_complete, read_result
from backhand.training.own_code import uses_own_code

# The settings that may differ between the runs of a population: one number per run, or the initial weights.
PER_RUN = (
    "seed",
    "name",
    "tags",
    "optimizer.lr",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "optimizer.betas",
    "optimizer.eps",
    "model.init",
    "model.init_scale",
    "scheduler.min_lr",
    "scheduler.every",
    "scheduler.factor",
    "scheduler.patience",
)


@dataclass
class Job:
    """One job of a sweep."""

    number: int  # from 0
    overrides: tuple[str, ...]  # as on a command line
    compose: Callable[[], DictConfig]
    config: TrainConfig  # checked
    folder: Path  # the run's folder

    @property
    def cfg(self) -> DictConfig:
        """A new copy of the configuration with Hydra's own part, as Hydra composes it; takes 5 ms and 0.3 MB."""
        return self.compose()

    @cached_property
    def hash(self) -> str:
        """The hash of the settings that change the result."""
        return config_hash(self.config)

    @property
    def record(self) -> dict[str, Any] | None:
        """The contents of result.json, if it belongs to this configuration."""
        found = read_result(self.folder)
        return found if found is not None and found.get("config_hash") == self.hash else None

    @property
    def complete(self) -> bool:
        """Whether the job has a final result."""
        return is_complete(self.record)


class Composer:
    """Composes and checks the jobs of a sweep.

    Hydra takes 80 ms to compose a configuration, and OmegaConf 10 ms to check its types. Jobs that differ only in
    `PER_RUN` settings share one configuration, in which each job's values are set, 2 ms a job.

    Args:
        hydra_context: Hydra's context.
        config: the sweep's configuration.
    """

    def __init__(self, hydra_context: HydraContext, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config
        self.parser = OverridesParser.create(config_loader=self.loader)
        # By the other settings and the `PER_RUN` keys that are set: Hydra's configuration, and the one in our schema.
        self.shared: dict[Any, tuple[DictConfig, DictConfig]] = {}
        self.tried: list[Any] = []

    def job(self, number: int, overrides: Sequence[str]) -> Job:
        """Compose and check a job.

        Raises:
            UserError: the job is wrong; the message names it.
        """
        try:
            cfg, tree = self._set(number, overrides)
            config = check_config(tree)
            check_table_file(config)
            self._check_own(config)
            subdir = str(cfg.hydra.sweep.subdir)
        except USER_ERRORS as error:
            raise UserError(f"job {number} ({' '.join(overrides)}): {one_line(error)}") from error
        if is_outside(subdir):
            raise UserError(f"job {number}: hydra.sweep.subdir={subdir}: is outside of the sweep's folder")
        folder = Path(str(cfg.hydra.sweep.dir), subdir).absolute()
        return Job(number, tuple(overrides), partial(self.compose, number, overrides), config, folder)

    def _check_own(self, config: TrainConfig) -> None:
        """Test what the job names as `_target_`, unless an earlier job named the same."""
        own: list[Any] = [
            asdict(part) for part in (config.data, config.optimizer, config.scheduler, config.callbacks, config.logger)
        ]
        own.append(config.model.gradient)
        if (uses_own_code(config) or split_gradient(config.model.gradient)) and own not in self.tried:
            from backhand.training.parts import build_callbacks, check_own_parts

            check_own_parts(config)
            build_callbacks(config)
            self.tried.append(own)

    def compose(self, number: int, overrides: Sequence[str]) -> DictConfig:
        """The configuration that Hydra's `load_sweep_config` returns, with the job's number."""
        return copy.deepcopy(self._set(number, overrides)[0])

    def _set(self, number: int, overrides: Sequence[str]) -> tuple[DictConfig, DictConfig]:
        """Set a job's values in the configuration that it shares with other jobs; valid until the next call."""
        parsed = self.parser.parse_overrides(list(overrides))
        has_dict = any(isinstance(each.value(), dict) for each in parsed)  # which may set any key inside it
        own = [] if has_dict or _is_custom(parsed) else [each for each in parsed if _is_per_run(each)]
        rest = tuple(str(each.input_line) for each in parsed if each not in own)
        key = (rest, tuple(each.key_or_group for each in own))
        if key not in self.shared:
            composed = self.loader.load_sweep_config(self.config, list(rest))
            self.shared[key] = (composed, apply_schema(composed))
        cfg, tree = self.shared[key]
        for each in own:
            OmegaConf.update(cfg, each.key_or_group, each.value())
            OmegaConf.update(tree, each.key_or_group, each.value())
        _set_hydra_job(cfg, number, [each for each in parsed if not each.is_hydra_override()])
        return cfg, tree


def _is_custom(parsed: Sequence[Override]) -> bool:
    """Whether a job chooses a part of the user's own, whose keys are not in the schema."""
    return any(each.value() == "custom" for each in parsed) or any("_target_" in each.key_or_group for each in parsed)


def _is_per_run(override: Override) -> bool:
    return (
        override.type == OverrideType.CHANGE
        and override.package is None
        and override.key_or_group in PER_RUN
        and not override.is_sweep_override()
    )


def _set_hydra_job(cfg: DictConfig, number: int, task: Sequence[Override]) -> None:
    """Write the job's number and overrides into Hydra's part of the configuration."""
    job = cfg.hydra.job
    naming = job.config.override_dirname
    named = sorted(str(each.input_line) for each in task if each.key_or_group not in naming.exclude_keys)
    with read_write(cfg.hydra), open_dict(job):
        cfg.hydra.overrides.task = [each.input_line for each in task]
        job.override_dirname = naming.item_sep.join(named).replace("=", naming.kv_sep)
        job.id = job.num = number
