"""What a configuration may not say, wherever it comes from: it may be a stranger's.

Hydra makes objects of what it has composed, and hands logging's part to `logging.config`, before any task begins; both
call whatever is named there. So it is looked at as soon as it has been composed, by the loader that composes it. An
interpolation there could come to something else later, so what it comes to now is put in its place.
"""

import contextlib
import functools
import itertools
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.object_type import ObjectType
from omegaconf import Container, DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from backhand.config import CONF
from backhand.config.archive import DEEPEST, check_yaml
from backhand.config.confidential import check_nothing_confidential, leaves
from backhand.config.interpolation import limited
from backhand.errors import UserError

ALLOW = "allow_targets"
# A module's classes, and no more: through a module that it has imported, `torch.optim.optimizer.os.system` is one too.
CLASSES = ("torch.optim", "torch.optim.lr_scheduler", "lightning.pytorch.callbacks", "lightning.pytorch.loggers")
# What is to be refused before a folder is made is refused by the first of them.
OWN_CALLBACKS = {
    "refuse_bad_config": "backhand.training.command.RefuseBadConfig",
    "drop_configuration": "backhand.training.command.DropConfiguration",
}
TARGETS = (
    *OWN_CALLBACKS.values(),
    "hydra_plugins.backhand_sweeps.GridSweeper",
    "hydra_plugins.backhand_sweeps.OptunaSweeper",
    "hydra_plugins.backhand_sweeps.PopulationLauncher",
    "hydra_plugins.backhand_sweeps.SlurmLauncher",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra.experimental.callbacks.LogJobReturnCallback",
)
LOG_CLASSES = (
    "logging.StreamHandler",
    "logging.FileHandler",
    "logging.NullHandler",
    "logging.Formatter",
    "logging.handlers.RotatingFileHandler",
    "logging.handlers.TimedRotatingFileHandler",
    "colorlog.ColoredFormatter",
)
# What a file from elsewhere may say of Hydra's own part: a search, and which settings it tries.
SEARCH = tuple(
    f"hydra.sweeper.{each}" for each in ("n_trials", "n_jobs", "sampler_options", "sampler", "seed", "objectives")
)
SEARCHED = re.compile(r"[\w.]+")
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
LOGGING = ("hydra.job_logging", "hydra.hydra_logging")
REGIONS = (*LOGGING, "hydra.launcher", "hydra.job.env_set")
# What Hydra calls, and what it calls with.
CALLED = ("hydra.callbacks", "hydra.launcher", "hydra.sweeper")
# Parts that are written out where they are, key by key.
WRITTEN_OUT = ("hydra.run", "hydra.sweep", "hydra.job", "hydra.job.env_set")
OUTPUT_SUBDIR = ".hydra"
# In the run's folder, which may be any, as a file that is nothing else to anybody.
LOG_FILE = re.compile(
    r"\$\{hydra\.(runtime\.output_dir|run\.dir|sweep\.dir)\}/(\$\{hydra\.job\.name\}|[\w-]|\.(?!\.))+\.log"
)
# What a run writes in its folder, beside its log.
WRITTEN = (
    ".hydra", "checkpoints", "plots", "tensorboard", "wandb", "metrics.csv", "findings.json", "result.json",
    "report.html",
)  # fmt: skip
# Links that W&B makes in each run's new folder, to its logs in the user's cache; it writes through none that it finds.
WANDBS_OWN = ("debug-core.log",)
# Variables of the environment that choose no program, library or server.
VARIABLES = re.compile(
    r"(OMP|MKL|OPENBLAS|NUMEXPR)_NUM_THREADS|CUDA_VISIBLE_DEVICES|CUBLAS_WORKSPACE_CONFIG|(NCCL|GLOO)_SOCKET_IFNAME"
    r"|NCCL_DEBUG|PYTHONHASHSEED|TZ|COLUMNS|WANDB_(MODE|SILENT|TAGS|NOTES|RUN_GROUP)"
)
# Shell commands, arguments of sbatch, and where pickles are written and read.
OWN_MACHINE = ("setup", "additional_parameters", "srun_args", "python", "temp_folder")
WORKERS = re.compile(r"\$\{hydra\.sweep\.dir\}/([\w%/-]|\.(?!\.))+")


@dataclass(frozen=True)
class Permission:
    """What the user has asked for in person, on the command line.

    Attributes:
        targets: the names in `allow_targets=[...]`.
        given: the keys that are set there.
    """

    targets: frozenset[str] = frozenset()
    given: frozenset[str] = frozenset()

    def covers(self, key: str) -> bool:
        """Whether a key, or what it lies in, was set or permitted by the user."""
        parts = key.split(".")
        named = self.given | self.targets
        return any(".".join(parts[:end]) in named for end in range(1, len(parts) + 1))


def permission(arguments: list[str]) -> Permission:
    """Take `allow_targets=[...]` out of a command line: it is no key of the configuration, so no file can set it.

    Raises:
        UserError: it is no list of names.
    """
    targets: set[str] = set()
    for argument in [each for each in arguments if each.startswith(f"{ALLOW}=")]:
        arguments.remove(argument)
        text = argument.partition("=")[2].strip()
        names = text.removeprefix("[").removesuffix("]").split(",")
        if text.startswith("[") != text.endswith("]"):
            names = [text]  # which is no name
        for name in filter(None, (each.strip() for each in names)):
            if not re.fullmatch(r"[\w.:/]+", name):
                raise UserError(f"{argument}: must be a list of names, as in {ALLOW}=[package.module.Name]")
            targets.add(name)
    keys = (each.partition("=")[0].lstrip("+") for each in arguments if "=" in each)
    # A choice from a group, `hydra/launcher=slurm`, sets nothing in person: the file that is chosen does.
    return Permission(frozenset(targets), frozenset(key for key in keys if "." in key and "/" not in key))


class CheckedLoader(ConfigLoaderImpl):
    """Hydra's composer, for runs, sweeps and their jobs, `--cfg` and `--help`; nothing is made of what it refuses.

    Args:
        permission: what the user permits.
    """

    def __init__(self, config_search_path: Any, permission: Permission) -> None:
        super().__init__(config_search_path=config_search_path)
        self.repository = CheckedRepository(config_search_path=config_search_path)
        self.permission = permission

    def load_configuration(self, *args: Any, **kwargs: Any) -> DictConfig:
        """As Hydra's.

        Raises:
            UserError: the configuration says what it may not.
        """
        with limited():
            cfg = super().load_configuration(*args, **kwargs)
            check_composed(cfg, self.permission)
        return cfg

    def _process_config_searchpath(self, config_name: Any, parsed_overrides: Any, repo: Any) -> None:
        """To look for files in a package, Hydra imports it: a folder's own code, if the folder can be imported from."""
        loaded = repo.load_config(config_path=config_name) if config_name is not None else None
        primary = getattr(loaded, "config", None)
        places = OmegaConf.select(primary, "hydra.searchpath") if isinstance(primary, DictConfig) else None
        for override in parsed_overrides:
            if override.get_key_element() == "hydra.searchpath" and not self.permission.covers("hydra.searchpath"):
                raise UserError(f"{override.input_line}: may only be set on the command line")
        for place in places if isinstance(places, Sequence) and not isinstance(places, str) else ():
            if re.match(r"(?!file://)\w+://", str(place)) and place not in self.permission.targets:
                raise UserError(
                    f"hydra.searchpath={place}: in a file it must be a folder; "
                    f"{ALLOW}=[{place}] on the command line permits it"
                )
        super()._process_config_searchpath(config_name, parsed_overrides, repo)

    def _load_single_config(self, default: Any, repo: Any) -> Any:
        """As Hydra's; of Hydra's own part a file from elsewhere says which search there is, and nothing else.

        Raises:
            UserError: it does.
        """
        loaded = super()._load_single_config(default, repo)
        place = loaded.path.removeprefix("file://")
        if place != loaded.path and not _is_ours(Path(place)):
            said = OmegaConf.to_container(loaded.config, resolve=False)
            if isinstance(said, dict) and "hydra" in said:
                for key, value in leaves(said["hydra"], "hydra"):
                    _check_elsewhere(key, value, default.config_path, self.permission)
        return loaded


class CheckedRepository(ConfigRepository):
    """Where Hydra finds the files that it composes."""

    def load_config(self, config_path: str) -> Any:
        """As Hydra's.

        Raises:
            UserError: the file becomes larger than it looks.
        """
        source = self._find_object_source(config_path=config_path, object_type=ObjectType.CONFIG)
        if source is not None and source.scheme() == "file" and not _is_ours(Path(source.path)):
            check_yaml(Path(source.path, source._normalize_file_name(config_path)))
        return super().load_config(config_path)


def _is_ours(path: Path) -> bool:
    return path.resolve().is_relative_to(CONF)


def _check_elsewhere(key: str, value: Any, file: str, permission: Permission) -> None:
    searched = key.removeprefix("hydra.sweeper.params.")
    if searched != key and SEARCHED.fullmatch(searched) and not searched.startswith("hydra"):
        return
    if key.startswith(SEARCH) or (key, value) in _ours() or permission.covers(key):
        return
    raise UserError(
        f"{file}: {key} may only be set on the command line and in conf/; {ALLOW}=[{key}] there permits a file to"
    )


@functools.cache
def _ours() -> list[tuple[str, Any]]:
    """What conf/hydra says, for those who have a copy of it."""
    said: list[tuple[str, Any]] = []
    for file in (CONF / "hydra").rglob("*.yaml"):
        place = ".".join(["hydra", *file.relative_to(CONF / "hydra").parent.parts])
        said += leaves(yaml.safe_load(file.read_text(encoding="utf-8")), place)
    return said


def check_composed(cfg: DictConfig, permission: Permission) -> None:
    """Refuse a composed configuration, Hydra's part included, that names what it may not.

    What Hydra calls, and logs with, has no interpolation afterwards whose value is known now.

    Raises:
        UserError: a callable that is not allowed; a file outside of the run's folder; a variable of the environment
            that chooses a program; a secret.
    """
    _check_inside(cfg, permission)
    _settle(cfg, permission)
    said: list[tuple[str, Any]] = []
    for key, last, value, written in _nodes(cfg):
        if last == "_target_":
            _check_callable(key, value, written, permission.targets)
        elif key.startswith(LOGGING):
            _check_logging(key, last, value, written, permission)
        elif not permission.covers(key):
            _check_place(key, last, value, written)
        if not isinstance(value, Container):
            said.append((key, value))
        said.append((key, last))  # what a resolver makes has keys of its own
    _check_callbacks(cfg)
    # What the command line says is in its own place as well, which is the better one to name.
    told = ("hydra.overrides", "hydra.job.override_dirname")
    check_nothing_confidential(sorted(said, key=lambda leaf: leaf[0].startswith(told)))


def check_stored(cfg: DictConfig) -> None:
    """Refuse callables in a configuration that a folder was found with.

    Raises:
        UserError: one that is not allowed.
    """
    for key, last, value, written in _nodes(cfg):
        if last == "_target_":
            _check_callable(key, value, written, ())


def _nodes(cfg: Container) -> Iterator[tuple[str, Any, Any, Any]]:
    """Every key of a tree, its last part, its value and what is written there, interpolations followed.

    An interpolation may make a tree out of a text (`oc.decode`), so what comes of it is looked into as well. What is
    harmless where it is written may be named from where it is not, so it is looked into in each of `REGIONS`.
    """
    seen: dict[tuple[int, str], Container] = {}  # kept, so that no number is given twice

    def walk(node: Any, written: Any, path: str, depth: int) -> Iterator[tuple[str, Any, Any, Any]]:
        if depth > DEEPEST:
            raise UserError(f"{path}: lies more than {DEEPEST} levels deep")
        for key in list(node) if isinstance(node, DictConfig) else range(len(written)):
            try:
                value = node[key]
            except OmegaConfBaseException:  # missing, or known only once the run has begun
                value = None
            if isinstance(value, dict | list | tuple):  # a resolver's own
                value = OmegaConf.create(value, parent=node)
            name = f"{path}.{key}" if path else str(key)
            yield name, key, value, written[key]
            met = (id(value), next((each for each in REGIONS if name.startswith(each)), ""))
            if isinstance(value, Container) and met not in seen:
                seen[met] = value
                inside = written[key] if isinstance(written[key], dict | list) else _written(value)
                yield from walk(value, inside, name, depth + 1)

    yield from walk(cfg, _written(cfg), "", 0)


def _written(node: Container) -> Any:
    return OmegaConf.to_container(node, resolve=False)


def _check_callable(key: str, value: Any, written: Any, allowed: Collection[str], own: Sequence[str] = TARGETS) -> None:
    if not isinstance(value, str) or not isinstance(written, str) or "${" in written:
        raise UserError(f"{key}={written}: must be a name, written out")
    module, _, name = value.rpartition(".")
    of_module = own is TARGETS and module in CLASSES and re.fullmatch(r"[A-Z]\w*", name)
    if not (value in own or value in allowed or of_module):
        classes = [f"{each}.*" for each in CLASSES] if own is TARGETS else []
        raise UserError(
            f"{key}={value}: may not be called by a configuration; {ALLOW}=[{value}] on the command line permits it; "
            f"allowed without: {', '.join([*own, *classes])}"
        )


def _check_logging(key: str, last: Any, value: Any, written: Any, permission: Permission) -> None:
    """The places where `logging.config` calls, imports and writes what it is told to."""
    if last in ("()", "class"):
        return _check_callable(key, value, written, permission.targets, LOG_CLASSES)
    if last != "filename" and value is None and isinstance(written, str) and "${" in written:
        raise UserError(f"{key}={written}: must be known before the run begins")
    if last == ".":
        raise UserError(f"{key}: sets attributes, which a configuration may not")
    if last == "mode" and value != "a" and not permission.covers(key):
        raise UserError(f"{key}={value}: must be a, so that nothing that was written is lost")
    for text in (value, written):
        if isinstance(text, str) and re.match(r"\w+://", text) and text not in STREAMS:
            if text in permission.targets:
                continue
            raise UserError(f"{key}={text}: may not be named by a configuration; allowed: {', '.join(STREAMS)}")
    if last == "filename" and not permission.covers(key) and not LOG_FILE.fullmatch(str(written)):
        raise UserError(
            f"{key}={written}: must lie in the run's folder, as in ${{hydra.runtime.output_dir}}/NAME.log, "
            "unless the command line says so"
        )
    return None


def _check_place(key: str, last: Any, value: Any, written: Any) -> None:
    """Where Hydra and its launchers write beside the run's folder, and what they set and run."""
    only = f"may only be set on the command line; {ALLOW}=[{key}] there permits a file to"
    if key == "hydra.launcher.submitit_folder" and not WORKERS.fullmatch(str(written)):
        raise UserError(f"{key}={written}: {only}")
    lines = key.startswith("hydra.launcher.") and "\n" in str(value)  # in the middle of a script for sbatch
    if lines or (key in {f"hydra.launcher.{each}" for each in OWN_MACHINE} and value):
        raise UserError(f"{key}: {only}")
    if key.startswith("hydra.job.env_set."):
        unchanged = written == f"${{oc.env:{last}}}" or ("${" not in str(written) and os.environ.get(last) == value)
        if not (VARIABLES.fullmatch(str(last)) or unchanged):
            raise UserError(f"{key}: {only}; or set {last} before the program begins")
    if key.startswith(CALLED) and isinstance(value, str) and "://" in value:
        raise UserError(f"{key}={value}: an address {only}")


def _settle(cfg: DictConfig, permission: Permission) -> None:
    """Put what is known now in the place of interpolations, in the parts that Hydra calls and logs with."""

    def settled(node: Any, path: str) -> None:
        written = _written(node)
        for key in list(node) if isinstance(node, DictConfig) else range(len(written)):
            name, text = f"{path}.{key}", written[key]
            if not isinstance(text, str) or "${" not in text:
                if isinstance(node[key] if not OmegaConf.is_missing(node, key) else None, Container):
                    settled(node[key], name)
                continue
            if key == "_target_":
                raise UserError(f"{name}={text}: must be a name, written out")
            if WORKERS.fullmatch(text) or (key == "filename" and LOG_FILE.fullmatch(text)):
                continue
            with contextlib.suppress(OmegaConfBaseException):
                value = node[key]
                value = OmegaConf.to_container(value, resolve=True) if isinstance(value, Container) else value
                if "${" not in str(value):  # what was escaped would be an interpolation now
                    node[key] = value
                    continue
            if key != "filename" and not permission.covers(name):  # which is looked at as it is written
                raise UserError(f"{name}={text}: must be known before the run begins")

    hydra = cfg.hydra
    with read_write(hydra), open_dict(hydra):
        for part in (*LOGGING, *CALLED):
            key = part.removeprefix("hydra.")
            text = _written(hydra).get(key)
            if isinstance(text, str) and "${" in text:
                raise UserError(f"{part}={text}: must be written out, key by key")
            if isinstance(hydra.get(key), Container):
                settled(hydra[key], part)


def _check_callbacks(cfg: DictConfig) -> None:
    for name in ("launcher", "sweeper"):
        if cfg.hydra.get(name) is None:
            raise UserError(f"hydra.{name}=null: must be there; choose one with hydra/{name}=…")
    for name, target in OWN_CALLBACKS.items():
        if cfg.hydra.callbacks.get(name) != {"_target_": target}:
            raise UserError(
                f"hydra.callbacks.{name}: must stay as it is in conf/hydra/default.yaml; what is refused before a "
                "folder is made is refused by it"
            )


def _check_inside(cfg: DictConfig, permission: Permission) -> None:
    """Refuse names that lead out of the folder that they are to lie in."""
    written = _written(cfg.hydra)
    for key in WRITTEN_OUT:
        tree = written
        for part in key.split(".")[1:]:
            tree = tree[part]
        if not isinstance(tree, dict):
            raise UserError(f"{key}={tree}: must be written out, key by key")
    job = cfg.hydra.job
    subdir = written["output_subdir"]
    if subdir != OUTPUT_SUBDIR and not permission.covers("hydra.output_subdir"):
        raise UserError(f"hydra.output_subdir={subdir}: must be {OUTPUT_SUBDIR}, unless the command line says it")
    with read_write(cfg.hydra), open_dict(job):
        unknown = [key for key in ("num", "id") if OmegaConf.is_missing(job, key)]
        for key in unknown:  # as it will be when a sweep's job begins
            job[key] = 0
        try:
            names = {key: OmegaConf.select(cfg, key) for key in ("hydra.sweep.subdir", "hydra.output_subdir")}
        finally:
            for key in unknown:
                job[key] = "???"
    for key, name in names.items():
        if leads_out(str(name)):
            raise UserError(f"{key}={name}: leads out of the run's folder; must be a name in it, without ..")
    if "/" in str(job.name):
        raise UserError(f"hydra.job.name={job.name}: must be the name of a file, without /")
    name = str(written["job"]["name"])
    if "${" in re.sub(r"\$\{hydra\.job\.(num|id)\}", "", name) and not permission.covers("hydra.job.name"):
        raise UserError(f"hydra.job.name={name}: must be written out, unless the command line says it")


def leads_out(name: str) -> bool:
    """Whether a path that is to be taken from a folder leads somewhere else."""
    return name.startswith("/") or ".." in name.split("/") or "\0" in name


def check_links(folder: Path, key: str, names: Sequence[str] = ("",)) -> None:
    """Refuse a folder that is to be written to with links in it that lead out of it: it may be a stranger's.

    Args:
        folder: the folder.
        key: how the user has named it.
        names: what is written there; everything, unless given.

    Raises:
        UserError: the first such link.
    """
    inside = folder.resolve()
    for top in (inside / name for name in names):
        below = (Path(place, name) for place, *found in os.walk(top) for name in itertools.chain(*found))
        for path in (top, *below):
            if path.is_symlink() and not path.resolve().is_relative_to(inside) and path.name not in WANDBS_OWN:
                raise UserError(
                    f"{key}={folder}: {path.relative_to(inside)} in it is a link that leads out of it, "
                    "and nothing is written through it; remove it, or name another folder"
                )
