"""result.json: what became of a run. It is the last file that a run writes."""

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
from backhand.config.imports import file_and_name
from backhand.config.schema import TrainConfig
from backhand.config.validation import larger_is_better

# What the gradients of a run come from, and what of it changes none of them.
CALCULUS = Path(backhand.__file__).parent / "calculus"
UNIMPORTANT = (tokenize.COMMENT, tokenize.NL)
BEGINS = (tokenize.ENCODING, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)

Status = Literal["finished", "diverged", "failed", "interrupted"]

# Settings that change no number of the result: where a run is resumed from, what is shown, logged, drawn, profiled or
# audited, and where the data are kept. A run may be resumed with others. `data.dir` is hashed: it names what is read.
NOT_HASHED = (
    *("ckpt_path", "checkpoint", "plots", "report", "name", "tags", "logger", "sweep", "on_divergence"),
    *("callbacks.progress_bar", "callbacks.audit", "callbacks.flow", "data.device"),
    *("trainer.enable_model_summary", "trainer.profiler", "trainer.log_every_n_steps"),
    *("trainer.num_sanity_val_steps", "trainer.limit_predict_batches", "trainer.inference_mode"),
)


@dataclass
class Result:
    """The outcome of a run.

    Attributes:
        status: `finished`; `diverged` (a loss or a gradient was not finite, or the training loss 10,000 times the first
            step's); `failed`; `interrupted`.
        objective: the metric that chose the best checkpoint, and its best value.
        metrics: the last epoch's training and validation metrics, and the best checkpoint's on the test split.
        best: the metrics of the epoch whose checkpoint is the best one.
        parameters: how many numbers the network has to learn.
        seconds: of training, validation included, set-up and test left out; of a population, the run's share.
        population: how many runs were trained in the same tensors; 1 for a run of its own.
        steps, epochs: completed, those before it was resumed included.
        skipped: steps whose update was left out, because it was not finite.
        audit: how often the gradients were audited, the worst relative error, whose it was, and torch's own
            there where it was looked at; or of another backward pass the mean angle to backpropagation in degrees;
            None for never.
        error: why it failed or diverged.
        chosen: what became of each setting that was `auto`.
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


def chosen(composed: TrainConfig, settled: TrainConfig) -> dict[str, str]:
    """What became of the settings that were `auto`, by key."""
    names = ("loss", "output_activation")
    return {f"model.{name}": getattr(settled.model, name) for name in names if getattr(composed.model, name) == "auto"}


def write_result(result: Result, config: TrainConfig, folder: Path) -> None:
    """Write `folder/result.json`.

    A number that is not finite becomes null, for JSON has no other word for it, and a secret ***.
    """
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
    """What `folder/result.json` says; None where there is none, or what is there is not one."""
    record = read_json(folder / "result.json")
    known = isinstance(record, dict) and record.get("status") in get_args(Status)
    return record if known and isinstance(record.get("objective"), dict) else None


def is_complete(record: dict[str, Any] | None) -> bool:
    """Whether there is nothing left to do for the run: a diverged one would diverge again."""
    return record is not None and record["status"] in ("finished", "diverged")


def objective_of(record: dict[str, Any]) -> float:
    """The objective's value; the worst there is where it has none, or where the run diverged.

    Before it does, or where the numbers of a lost run overflow to a loss of 0, its best epoch may look good.
    """
    value = record["objective"].get("value")
    if value is None or record["status"] == "diverged":
        return worst_objective(record["objective"]["name"])
    return float(value)


def worst_objective(name: str) -> float:
    """Beyond any value that a run could have."""
    return -math.inf if larger_is_better(name) else math.inf


def best_objective(rows: Sequence[Mapping[str, float]], name: str) -> float:
    """The objective's best value among the epochs, or the worst there is where no epoch had a finite one."""
    finite = [row[name] for row in rows if name in row and math.isfinite(row[name])]
    if not finite:
        return worst_objective(name)
    return max(finite) if larger_is_better(name) else min(finite)


def best_row(rows: Sequence[Mapping[str, float]], name: str) -> Mapping[str, float] | None:
    """The first epoch that has the objective's best value; None where no epoch has a finite one."""
    best = best_objective(rows, name)
    return next((row for row in rows if row.get(name) == best and math.isfinite(best)), None)


def best_epoch(rows: Sequence[Mapping[str, float]], name: str) -> dict[str, float]:
    """The metrics of `best_row`; none where there is none."""
    row = best_row(rows, name)
    return {} if row is None else metrics_of(row)


def metrics_of(row: Mapping[str, float]) -> dict[str, float]:
    """An epoch's training and validation metrics."""
    return {name: value for name, value in row.items() if name.startswith(("train/", "val/"))}


def config_hash(config: TrainConfig) -> str:
    """SHA-256 of the settings that decide what a run computes, and of the source of its backward pass."""
    decisive = settings_without(config, NOT_HASHED) | {"backward_pass": backward_pass(config)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def is_another(stored: Mapping[str, Any], config: TrainConfig) -> str | None:
    """Whose a result.json or a checkpoint is, if not this configuration's: half a sentence; None where it is.

    Args:
        stored: with `config_hash` and `backward_pass`.
        config: the run's.
    """
    if stored.get("config_hash") == config_hash(config):
        return None
    if stored.get("backward_pass") != backward_pass(config):
        return "another backward pass's run (the code that the gradients come from has changed since)"
    return "another configuration's run"


def backward_pass(config: TrainConfig) -> str:
    """A digest of the code that the gradients come from: this package's calculus, and the file of a rule of one's own.

    Comments, docstrings and blank lines do not count. A file that is not there counts as empty.
    """
    own = file_and_name(config.model.gradient)
    files = [*sorted(CALCULUS.glob("*.py")), *([own[0]] if own is not None else [])]
    return hashlib.sha256("".join(code_of(file) for file in files).encode()).hexdigest()[:16]


def code_of(file: Path) -> str:
    """The file's tokens without comments, docstrings and blank lines."""
    if not file.is_file():
        return ""
    # A file that is changed while the program runs has been imported as it was.
    return _code(str(file.absolute()))


@functools.cache
def _code(path: str) -> str:
    source = Path(path).read_bytes()
    try:
        tokens = [each for each in tokenize.tokenize(io.BytesIO(source).readline) if each.type not in UNIMPORTANT]
    except (tokenize.TokenError, SyntaxError):
        return source.decode("utf-8", "replace")
    kept = [tokens[0]]
    for token in tokens[1:]:
        # At the beginning of a statement a string is a docstring, and an end of line what is left of one.
        if kept[-1].type not in BEGINS or token.type not in (tokenize.STRING, tokenize.NEWLINE):
            kept.append(token)
    return "".join(token.string for token in kept)


def differences(ours: TrainConfig, theirs: TrainConfig) -> str:
    """Which settings make their `config_hash` another, in words; the first three of them."""
    here, there = (dict(leaves(settings_without(each, NOT_HASHED))) for each in (ours, theirs))
    keys = [key for key in here | there if here.get(key) != there.get(key)]
    told = [f"{key} is {there.get(key)} there, {here.get(key)} here" for key in keys[:3]]
    more = [f"{len(keys) - 3} more"] if len(keys) > 3 else []
    return ", ".join([*told, *more])


def settings_without(config: TrainConfig, keys: Sequence[str]) -> dict[str, Any]:
    """The configuration without some of its keys."""
    settings = asdict(config)
    for key in keys:
        *parents, last = key.split(".")
        functools.reduce(lambda part, name: part[name], parents, settings).pop(last, None)  # not every choice has it
    return settings


@functools.cache
def git(*arguments: str) -> str | None:
    """What git says of the code that this process runs; None where it says nothing."""
    command = ["git", "-C", str(CONF.parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
