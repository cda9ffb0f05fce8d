"""The jobs of a sweep: each one's configuration, composed and checked before the first of them runs."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from backhand.config.errors import USER_ERRORS, UserError, one_line
from backhand.config.schema import TrainConfig
from backhand.config.untrusted import leads_out
from backhand.config.validation import check_table_file, typed
from backhand.reporting.result import config_hash, is_complete, read_result

# What may differ between the runs of a population: it is a number for each, or decides how its weights begin.
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
    """One job of a sweep.

    Attributes:
        number: its place in the sweep, from 0.
        overrides: what it sets, as on a command line.
        cfg: the composed configuration, Hydra's own part included.
        config: the same, typed and checked.
        folder: where it writes.
    """

    number: int
    overrides: tuple[str, ...]
    cfg: DictConfig
    config: TrainConfig
    folder: Path

    @cached_property
    def hash(self) -> str:
        """Of the settings that decide what it computes."""
        return config_hash(self.config)

    @property
    def record(self) -> dict[str, Any] | None:
        """Its result.json, if it is this configuration's."""
        found = read_result(self.folder)
        return found if found is not None and found.get("config_hash") == self.hash else None

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to do for it."""
        return is_complete(self.record)


class Composer:
    """Composes the configurations of a sweep's jobs.

    Hydra takes a tenth of a second for each, most of it for reading the same files again: where jobs differ in
    `PER_RUN` settings alone, what they share is composed once, and their own values are put into copies of it.

    Args:
        hydra_context: Hydra's.
        config: the sweep's own configuration.
    """

    def __init__(self, hydra_context: HydraContext, config: DictConfig) -> None:
        self.loader, self.config = hydra_context.config_loader, config
        self.parser = OverridesParser.create(config_loader=self.loader)
        self.shared: dict[tuple[str, ...], DictConfig] = {}
        self.jobs: dict[tuple[int, tuple[str, ...]], Job] = {}

    def job(self, number: int, overrides: Sequence[str]) -> Job:
        """The job, composed and checked; asked for again, the same.

        Raises:
            UserError: what is wrong with it, in one line that names the job.
        """
        key = (number, tuple(overrides))
        if key not in self.jobs:
            try:
                cfg = self.compose(overrides)
                with open_dict(cfg.hydra.job):
                    cfg.hydra.job.id = cfg.hydra.job.num = number
                config = typed(cfg)
                check_table_file(config)
            except USER_ERRORS as error:
                raise UserError(f"job {number} ({' '.join(overrides)}): {one_line(error)}") from error
            if leads_out(subdir := str(cfg.hydra.sweep.subdir)):
                raise UserError(f"job {number}: hydra.sweep.subdir={subdir}: leads out of the sweep's folder")
            folder = Path(str(cfg.hydra.sweep.dir)) / subdir
            self.jobs[key] = Job(number, key[1], cfg, config, folder.absolute())
        return self.jobs[key]

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """What Hydra's `load_sweep_config` returns."""
        parsed = self.parser.parse_overrides(list(overrides))
        own = [each for each in parsed if _is_plain(each)]
        rest = tuple(each.input_line or "" for each in parsed if not _is_plain(each))
        if any(isinstance(each.value(), dict) for each in parsed):  # may hold what an own value replaces
            return self.loader.load_sweep_config(self.config, list(overrides))
        if rest not in self.shared:
            self.shared[rest] = self.loader.load_sweep_config(self.config, list(rest))
        cfg = copy.deepcopy(self.shared[rest])
        for each in own:
            OmegaConf.update(cfg, each.key_or_group, each.value())
        task = [each for each in parsed if not each.is_hydra_override()]
        naming = cfg.hydra.job.config.override_dirname
        with read_write(cfg.hydra), open_dict(cfg.hydra):
            cfg.hydra.overrides.task = [each.input_line for each in task]
            cfg.hydra.job.override_dirname = get_overrides_dirname(
                task,
                exclude_keys=list(naming.exclude_keys),
                item_sep=naming.item_sep,
                kv_sep=naming.kv_sep,
            )
        return cfg


def _is_plain(override: Override) -> bool:
    return (
        override.type == OverrideType.CHANGE
        and override.package is None
        and override.key_or_group in PER_RUN
        and not override.is_sweep_override()
    )


def shared_settings(config: TrainConfig) -> dict[str, Any]:
    """The configuration without what may differ between the runs of a population."""
    tree = asdict(config)
    for key in PER_RUN:
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        del node[last]
    return tree


def grouped(jobs: Iterable[Job]) -> list[list[Job]]:
    """The jobs whose networks can be trained in the same tensors, together; each group in the jobs' order."""
    groups: list[tuple[dict[str, Any], list[Job]]] = []
    for job in jobs:
        settings = shared_settings(job.config)
        members = next((each for known, each in groups if known == settings), None)
        if members is None:
            groups.append((settings, [job]))
        else:
            members.append(job)
    return [members for _, members in groups]
