"""result.json, the result of a run and the last file that it writes."""

import functools
import hashlib
import io
import json
import math
import platform
import subprocess
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import backhand
from backhand import __version__
from backhand.config import CONF
from backhand.config.confidential import leaves, masked
from backhand.config.files import atomic_write, read_json
from backhand.config.imports import split_gradient
from backhand.config.schema import TrainConfig
from backhand.config.validation import larger_is_better

CALCULUS = Path(backhand.__file__).parent / "calculus"  # the code that computes the gradients
IGNORED = (tokenize.COMMENT, tokenize.NL)
STATEMENT_STARTS = (tokenize.ENCODING, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)  # a statement follows

Status = Literal["finished", "diverged", "failed", "interrupted"]

# Settings that change no number in the result: what is resumed, displayed, logged, plotted, profiled or audited, and
# the device of the data. A run may be resumed with other values. `data.dir` is hashed because it selects the data.
NOT_HASHED = (
    *("ckpt_path", "checkpoint", "plots", "report", "name", "tags", "logger", "sweep", "on_divergence"),
    *("callbacks.progress_bar", "callbacks.audit", "callbacks.flow", "data.device"),
    *("trainer.enable_model_summary", "trainer.profiler", "trainer.log_every_n_steps"),
    *("trainer.num_sanity_val_steps", "trainer.limit_predict_batches", "trainer.inference_mode"),
)


@dataclass
class Result:
    """The result of a run.

    Attributes:
        status: `finished`; `diverged` (a loss or a gradient was not finite, or the training loss exceeded 10,000 times
            that of the first step); `failed`; `interrupted`.
        objective: the metric that selects the best checkpoint, and its best value.
        metrics: the last epoch's training and validation metrics, and the best checkpoint's test metrics.
        best: the metrics of the epoch of the best checkpoint.
        parameters: the number of trainable parameters.
        seconds: of training and validation, without set-up and test; in a population, the run's share.
        population: the number of runs that were trained in the same tensors.
        steps, epochs: completed, including those before the run was resumed.
        skipped: steps without an update because the loss or a gradient was not finite.
        audit: the number of gradient audits, the worst relative error with its parameter and, if measured, torch's own
            error there; for other backward passes the mean angle to backpropagation in degrees; None without audits.
        error: why the run failed or diverged.
        chosen: the value of each setting that was `auto`.
    """

    status: Status
    objective: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    parameters: int = 0
    seconds: float = 0.0
    population: int = 1
    steps: int = 0
    epochs: int = 0
    skipped: int = 0
    device: str = "cpu"
    audit: dict[str, Any] | None = None
    error: str | None = None
    chosen: dict[str, str] = field(default_factory=dict)


def chosen(composed: TrainConfig, resolved: TrainConfig) -> dict[str, str]:
    """The values of the settings that were `auto`, by key."""
    names = ("loss", "output_activation")
    return {f"model.{name}": getattr(resolved.model, name) for name in names if getattr(composed.model, name) == "auto"}


def write_result(result: Result, config: TrainConfig, folder: Path) -> None:
    """Write `folder/result.json`, with null for a number that is not finite and *** for a secret."""
    record = {
        **asdict(result),
        "config_hash": config_hash(config),
        "backward_pass": backward_pass(config),
        "git_commit": git("rev-parse", "HEAD"),
        "versions": {
            "python": platform.python_version(),
            "backhand": __version__,
            **{name: version(name) for name in ("torch", "lightning", "hydra-core", "wandb")},
        },
    }
    atomic_write(folder / "result.json", json.dumps(masked(_finite(record)), indent=2) + "\n")


def read_result(folder: Path) -> dict[str, Any] | None:
    """Read `folder/result.json`; None if it does not exist or is not a result."""
    record = read_json(folder / "result.json")
    known = isinstance(record, dict) and record.get("status") in get_args(Status)
    return record if known and isinstance(record.get("objective"), dict) else None


def is_complete(record: dict[str, Any] | None) -> bool:
    """Whether the run need not be repeated; a diverged run would diverge again."""
    return record is not None and record["status"] in ("finished", "diverged")


def objective_of(record: dict[str, Any]) -> float:
    """The value of the objective, or `worst_objective` if it has none or the run diverged.

    The best epoch of a diverged run may look good: it precedes the divergence, or an overflow led to a loss of 0.
    """
    value = record["objective"].get("value")
    if value is None or record["status"] == "diverged":
        return worst_objective(record["objective"]["name"])
    return float(value)


def worst_objective(name: str) -> float:
    """Infinity, with the sign that is worse than any value of the metric."""
    return -math.inf if larger_is_better(name) else math.inf


def best_objective(rows: Sequence[Mapping[str, float]], name: str) -> float:
    """The best value of the objective over the epochs, or `worst_objective` if none is finite."""
    finite = [row[name] for row in rows if name in row and math.isfinite(row[name])]
    if not finite:
        return worst_objective(name)
    return max(finite) if larger_is_better(name) else min(finite)


def best_row(rows: Sequence[Mapping[str, float]], name: str) -> Mapping[str, float] | None:
    """The first epoch with the best value of the objective; None if no value is finite."""
    best = best_objective(rows, name)
    return next((row for row in rows if row.get(name) == best and math.isfinite(best)), None)


def best_epoch(rows: Sequence[Mapping[str, float]], name: str) -> dict[str, float]:
    """The metrics of `best_row`; empty without one."""
    row = best_row(rows, name)
    return {} if row is None else metrics_of(row)


def metrics_of(row: Mapping[str, float]) -> dict[str, float]:
    """An epoch's training and validation metrics."""
    return {name: value for name, value in row.items() if name.startswith(("train/", "val/"))}


def config_hash(config: TrainConfig) -> str:
    """SHA-256 of the settings that affect the result, and of the source of the backward pass."""
    decisive = settings_without(config, NOT_HASHED) | {"backward_pass": backward_pass(config)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def mismatch(stored: Mapping[str, Any], config: TrainConfig) -> str | None:
    """The run that a result.json or a checkpoint belongs to, for a message; None if it is this configuration's.

    Args:
        stored: a record with `config_hash` and `backward_pass`.
        config: the configuration of the run.
    """
    if stored.get("config_hash") == config_hash(config):
        return None
    if stored.get("backward_pass") != backward_pass(config):
        return "another backward pass's run (the code that the gradients come from has changed since)"
    return "another configuration's run"


def backward_pass(config: TrainConfig) -> str:
    """A digest of the code that computes the gradients: `backhand.calculus` and the file of `model.gradient`.

    Comments, docstrings and blank lines are ignored. A missing file counts as empty.
    """
    own = split_gradient(config.model.gradient)
    files = [*sorted(CALCULUS.glob("*.py")), *([own[0]] if own is not None else [])]
    return hashlib.sha256("".join(code_of(file) for file in files).encode()).hexdigest()[:16]


def code_of(file: Path) -> str:
    """The file's tokens without comments, docstrings and blank lines."""
    if not file.is_file():
        return ""
    # Cached: if the file changes while the program runs, the imported code is still the old one.
    return _code(str(file.absolute()))


@functools.cache
def _code(path: str) -> str:
    source = Path(path).read_bytes()
    try:
        tokens = [each for each in tokenize.tokenize(io.BytesIO(source).readline) if each.type not in IGNORED]
    except (tokenize.TokenError, SyntaxError):
        return source.decode("utf-8", "replace")
    code = [tokens[0]]
    for token in tokens[1:]:
        # A string at the start of a statement is a docstring; the end of its line is removed with it.
        if code[-1].type not in STATEMENT_STARTS or token.type not in (tokenize.STRING, tokenize.NEWLINE):
            code.append(token)
    return "".join(token.string for token in code)


def describe_differences(ours: TrainConfig, theirs: TrainConfig) -> str:
    """The first three settings that make the `config_hash` of two configurations differ, for a message."""
    here, there = (dict(leaves(settings_without(each, NOT_HASHED))) for each in (ours, theirs))
    keys = [key for key in here | there if here.get(key) != there.get(key)]
    first = [f"{key} is {there.get(key)} there, {here.get(key)} here" for key in keys[:3]]
    more = [f"{len(keys) - 3} more"] if len(keys) > 3 else []
    return ", ".join([*first, *more])


def settings_without(config: TrainConfig, keys: Sequence[str]) -> dict[str, Any]:
    """The configuration as a dict without some of its keys."""
    settings = asdict(config)
    for key in keys:
        *parents, last = key.split(".")
        functools.reduce(lambda part, name: part[name], parents, settings).pop(last, None)  # not every choice has it
    return settings


@functools.cache
def git(*arguments: str) -> str | None:
    """The output of a git command in this project's repository; None if it fails."""
    command = ["git", "-C", str(CONF.parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
