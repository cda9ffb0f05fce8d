"""Read the folder of a run or of a sweep, and list what is missing in it.

A folder may come from another machine, version or person, so nothing in it is trusted: no link is followed out of it,
no file above a size limit is read, and a value of the wrong type counts as missing. Secrets are read as ***.
"""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from backhand.config.confidential import masked
from backhand.config.overrides import as_written
from backhand.config.stored import checked_yaml
from backhand.config.validation import larger_is_better
from backhand.errors import UserError
from backhand.reporting.error_analysis import FINDINGS, ErrorAnalysis
from backhand.reporting.result import Status
from backhand.reporting.spreadsheet import unescape_formula
from backhand.reporting.terminal import counted

RUN_FILES = (".hydra", "metrics.csv", "result.json")
SWEEP_FILES = ("multirun.yaml", "sweep.json", "sweep.csv")
NO_RESULT = "no result"
INDIVISIBLE = ("classes", "confusion", "scatter")  # dropped entirely when one part of them is invalid
JOB = re.compile("[0-9]{1,9}")
COLUMNS = re.compile(r"(epoch|step|lr|(train|val|delta|grad|audit|alignment|norm_ratio|units)/.*)", re.DOTALL)
KEY = re.compile(r"(?!(job|runs|failed|status|seconds|error)$)[\w.@-]+")
INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

MOST_BYTES = 32 << 20
MOST_YAML_BYTES = 1 << 20  # the YAML parser needs a second per MB
MOST_ENTRIES = 1000  # settings, metrics or columns
MOST_JOBS = 5000
MOST_LETTERS = 2000


def text(value: Any) -> str:
    """Any value as one line of at most `MOST_LETTERS`, written as on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
        value = f"[{', '.join(map(text, value))}]"
    try:
        value = f"{value:.6g}" if isinstance(value, float) else str(value)
    except ValueError:  # Python does not format an integer of more than 4,300 digits
        value = "(a huge number)"
    # A lone surrogate, or a byte of a file name that is not UTF-8, cannot be encoded.
    return INVISIBLE.sub(" ", value[:MOST_LETTERS]).encode("utf-8", "replace").decode()


Text = Annotated[str, BeforeValidator(text)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]  # a float64 represents these exactly
Few = BeforeValidator(lambda given: dict(islice(given.items(), MOST_ENTRIES)) if isinstance(given, dict) else given)
Metrics = Annotated[dict[Text, Number | None], Few]
Texts = Annotated[dict[Text, Text], Few]


class Objective(BaseModel):
    """The metric that selects the best epoch, and its best value."""

    name: Text = ""
    value: Number | None = None


class Audit(BaseModel):
    """The number of gradient audits, and their worst relative error or mean angle to backpropagation in degrees."""

    times: Count = 0
    worst: Number | None = None
    angle: Number | None = None


class RunResult(BaseModel):
    """result.json with every entry optional; `backhand.reporting.result.Result` documents them."""

    status: Status | None = None
    objective: Objective = Objective()
    metrics: Metrics = {}
    best: Metrics = {}
    parameters: Count | None = None
    seconds: Annotated[Number, Field(ge=0)] | None = None
    population: Count | None = None
    steps: Count | None = None
    epochs: Count | None = None
    device: Text = ""
    audit: Audit = Audit()
    error: Text | None = None
    chosen: Texts = {}
    git_commit: Text | None = None
    versions: Texts = {}


class SweepClaim(BaseModel):
    """sweep.json: the jobs of the sweep and its command line."""

    jobs: list[Any] = []
    overrides: list[Text] = []


@dataclass
class RunFolder:
    """A run as read from its folder.

    Attributes:
        settings: the configuration, nested keys joined with dots, values as text.
        overrides: the settings from the command line.
        epochs: metrics.csv as numbers, NaN for a missing one; `epoch` counts from 0.
        gaps: one line for each missing or damaged part.
    """

    path: Path
    settings: dict[str, str]
    overrides: list[str]
    epochs: pd.DataFrame
    result: RunResult
    error_analysis: ErrorAnalysis
    gaps: list[str]

    @property
    def status(self) -> str:
        """The status in result.json; `NO_RESULT` without one."""
        return self.result.status or NO_RESULT


@dataclass
class SweepFolder:
    """A sweep as read from its folder.

    Attributes:
        runs: one row per job: `job`, the settings (as text), `status`, the metrics (NaN if the run has not finished),
            `seconds`, `error` ("" for none).
        settings: the columns that differ between the jobs, including `seed` if it was swept.
        objectives: the metrics that the sweep optimizes, the most important first.
        metrics: the objectives, then validation metrics of the best epoch and test metrics.
        overrides: the sweep's command line.
        gaps: one line for each missing or damaged part.
    """

    path: Path
    runs: pd.DataFrame
    settings: list[str]
    objectives: list[str]
    metrics: list[str]
    overrides: list[str]
    gaps: list[str]

    @property
    def ranked(self) -> pd.DataFrame:
        """The runs that have all objectives, the best first; of equal runs the earlier comes first."""
        if not self.objectives:
            return self.runs.iloc[:0]
        first = self.objectives[0]
        complete = self.runs.dropna(subset=self.objectives)
        return complete.sort_values(first, ascending=not larger_is_better(first), kind="stable")

    def folder_of(self, job: int) -> Path | None:
        """A job's folder; None if it does not exist or is a link out of the sweep's folder."""
        folder = self.path / str(job)
        return folder if folder.is_dir() and folder.resolve().is_relative_to(self.path.resolve()) else None


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep's and not a run's.

    Raises:
        UserError: the folder is neither, or cannot be read.
    """
    try:
        names = {each.name for each in path.iterdir()}
    except OSError as error:
        raise UserError(f"{path}: is not a readable folder ({error.strerror})") from None
    if names.isdisjoint((*RUN_FILES, *SWEEP_FILES)):
        raise UserError(
            f"{path}: neither a run's folder, which has {', '.join(RUN_FILES[:-1])} or {RUN_FILES[-1]}, "
            f"nor a sweep's, which has {', '.join(SWEEP_FILES[:-1])} or {SWEEP_FILES[-1]}"
        )
    return not names.isdisjoint(SWEEP_FILES)


def read_folder(path: Path) -> RunFolder | SweepFolder:
    """Read a run's or a sweep's folder.

    Raises:
        UserError: the folder is neither a run's nor a sweep's.
    """
    return read_sweep(path) if is_sweep(path) else read_run(path)


def read_run(path: Path) -> RunFolder:
    """Read a run's folder; missing files are listed in `gaps`."""
    files = _Files(path)
    return RunFolder(
        path,
        _flat(files.yaml(".hydra/config.yaml", dict) or {}),
        _overrides(files, ".hydra/overrides.yaml"),
        _read_epochs(files),
        _read_result(files, "result.json", "is missing: the run has not ended, or was killed"),
        files.load(FINDINGS, ErrorAnalysis, "is missing: no confusion matrix or scatter, weights or worst predictions"),
        files.gaps,
    )


def read_epochs(path: Path) -> pd.DataFrame:
    """Read only a run's metrics.csv, as `RunFolder.epochs`; empty if it cannot be read."""
    return _read_epochs(_Files(path))


def read_sweep(path: Path) -> SweepFolder:
    """Read a sweep's folder: the runs' own files, and `sweep.csv` for what they lack."""
    files = _Files(path)
    claim = files.load("sweep.json", SweepClaim)
    table = files.table("sweep.csv", "is missing: the sweep has not ended, or was killed")
    table = table.map(unescape_formula).rename(columns=unescape_formula)
    rows = {int(row["job"]): row for row in table.to_dict("records") if JOB.fullmatch(row.get("job", ""))}
    folders = {int(each.name) for each in path.iterdir() if JOB.fullmatch(each.name)}
    jobs = sorted(folders | rows.keys())
    if len(rows) < len(table):
        files.gap("sweep.csv", f"{counted(len(table) - len(rows), 'line')} left out: no job number, or a repeated one")
    if unknown := len(set(range(len(claim.jobs))) - set(jobs)):
        files.gap(
            "the sweep",
            f"had {counted(len(claim.jobs), 'job')}; {unknown} without a folder and without a row in sweep.csv",
        )
    if len(jobs) > MOST_JOBS:
        files.gap("the sweep", f"has {len(jobs)} jobs; the first {MOST_JOBS} are shown")
    if removed := [str(job) for job in jobs if job not in folders]:
        files.gap("the sweep", f"the folders of jobs {', '.join(removed[:20])} are missing; sweep.csv is used for them")

    jobs = jobs[:MOST_JOBS]
    results = {job: _read_result(files, f"{job}/result.json", absent="") for job in jobs}
    given = {job: _overrides(files, f"{job}/.hydra/overrides.yaml", absent="") for job in jobs}
    pairs = {job: dict(each.lstrip("+").partition("=")[::2] for each in own) for job, own in given.items() if own}
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=object).reindex(jobs)
    in_table = list(table)[1 : list(table).index("status")] if "status" in table else []
    settings = pd.DataFrame.from_dict(pairs, orient="index", dtype=object).fillna("").combine_first(table[in_table])
    # sweep.csv has the settings that differ between jobs; the others are the same for a job without a folder.
    swept = [key for key in settings if KEY.fullmatch(key) and settings[key].nunique() > 1]
    settings = settings[sorted(swept, key=[*(key for own in pairs.values() for key in own), *in_table].index)]

    outcomes = {job: _outcome(result) for job, result in results.items() if result.status is not None}
    results_table = pd.DataFrame.from_dict(outcomes, orient="index", dtype=object).combine_first(table).reindex(jobs)
    of_sweep = [column.removeprefix("best ") for column in table if column.startswith("best ")]
    of_runs = [result.objective.name for result in results.values() if result.objective.name]
    objectives = list(dict.fromkeys(of_sweep or of_runs[:1]))
    status = results_table.get("status", pd.Series(index=jobs, dtype=object)).fillna(NO_RESULT)
    best = {name: f"best {name}" for name in [*objectives, "val/acc", "val/r2"]}
    tested = {name: name for name in sorted(results_table) if name.startswith("test/")}
    texts = results_table.reindex(columns=["seconds", *best.values(), *tested])
    numbers = texts.apply(pd.to_numeric, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    numbers = numbers.where(pd.DataFrame({name: _possible(name, numbers[name]) for name in numbers}))
    values = pd.DataFrame(
        {name: numbers[column].where(status == "finished") for name, column in (best | tested).items()}
    )
    metrics = [name for name in values if name in objectives or values[name].notna().any()]
    error = results_table.get("error", pd.Series(index=jobs, dtype=object)).fillna("")
    ends = [numbers["seconds"].rename("seconds"), error.rename("error")]
    runs = pd.concat([settings.reindex(jobs).fillna(""), status.rename("status"), values[metrics], *ends], axis=1)
    runs = runs.loc[:, ~runs.columns.duplicated()].reset_index(names="job")
    return SweepFolder(path, runs, list(settings), objectives, metrics, claim.overrides, files.gaps)


Model = TypeVar("Model", bound=BaseModel)


class _Files:
    """The files of one folder; a file that cannot be read is added to `gaps`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.real = root.resolve()
        self.gaps: list[str] = []

    def gap(self, name: str, reason: str) -> None:
        self.gaps.append(f"{name}: {reason}")

    def read(self, name: str, most: int, absent: str) -> str | None:
        """A file's text; a link is followed only within the folder."""
        try:
            path = (self.root / name).resolve()
            if not path.is_relative_to(self.real):
                self.gap(name, "is a link out of the folder and was not followed")
            elif not path.exists():
                if absent:
                    self.gap(name, absent)
            elif not path.is_file():
                self.gap(name, "is not a file")
            elif path.stat().st_size > most:
                self.gap(name, f"is larger than {most >> 20} MB and was not read")
            else:
                return path.read_bytes().decode("utf-8-sig", "replace")
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            self.gap(name, f"cannot be read ({getattr(error, 'strerror', None) or 'a loop of links'})")
        return None

    def load(self, name: str, model: type[Model], absent: str = "is missing") -> Model:
        """A JSON file without its entries of the wrong type, each of which is a gap."""
        record = self._parsed(name, json.loads, dict, self.read(name, MOST_BYTES, absent)) or {}
        while True:
            try:
                return model.model_validate(record)
            except ValidationError as error:
                wrong = error.errors(include_url=False, include_context=False, include_input=False)
            places = [each["loc"][: 1 if each["loc"][0] in INDIVISIBLE else 2] for each in wrong]
            for each, place in zip(wrong, places, strict=True):
                self.gap(name, f"{text('.'.join(map(str, place)))} is left out: {each['msg']}")
            for *parents, last in reversed(dict.fromkeys(places)):
                del (record[parents[0]] if parents else record)[last]

    def yaml(self, name: str, kind: type, absent: str = "is missing") -> Any:
        content = self.read(name, MOST_YAML_BYTES, absent)
        return self._parsed(name, lambda content: yaml.safe_load(checked_yaml(content)), kind, content)

    def _parsed(self, name: str, parse: Callable[[str], Any], kind: type, content: str | None) -> Any:
        if content is None:
            return None
        try:
            parsed = masked(parse(content))
        except UserError as error:  # an alias, or a value that is too long
            self.gap(name, text(error))
            return None
        except (ValueError, RecursionError, yaml.YAMLError):
            self.gap(name, "is damaged, or empty")
            return None
        if not isinstance(parsed, kind):
            self.gap(name, f"is damaged: its content is not a {'list' if kind is list else 'mapping'}")
            return None
        return parsed

    def table(self, name: str, absent: str) -> pd.DataFrame:
        """A CSV file's fields as text, without incomplete lines."""
        content = self.read(name, MOST_BYTES, absent)
        if content is None:
            return pd.DataFrame()
        if not content.endswith("\n"):
            self.gap(name, "ends in the middle of a line, which is left out")
            content = content[: content.rfind("\n") + 1]
        try:
            # pandas.read_csv takes the first column for an index if the rows have one field more than the header.
            header, *rows = csv.reader(io.StringIO(content, newline=""))
        except (ValueError, csv.Error):
            self.gap(name, "is damaged, or empty")
            return pd.DataFrame()
        lines = [masked([text(field) for field in row]) for row in rows if len(row) == len(header)]
        if len(lines) < len(rows):
            self.gap(name, f"{counted(len(rows) - len(lines), 'line')} left out: not as many fields as the header")
        table = pd.DataFrame(lines, columns=masked([text(column) for column in header]), dtype=object)
        return table.loc[:, ~table.columns.duplicated()].iloc[:, :MOST_ENTRIES]


def _read_epochs(files: _Files) -> pd.DataFrame:
    name = "metrics.csv"
    table = files.table(name, "is missing: no curves (the first epoch had not ended)")
    table = table[[column for column in table if COLUMNS.fullmatch(column)]]
    numbers = table.apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    numbers = numbers.where(pd.DataFrame({column: _possible(column, numbers[column]) for column in numbers}))
    if count := int((numbers.isna() & ~table.isin(["", "nan"])).to_numpy().sum()):
        files.gap(name, f"{counted(count, 'value')} left out: not a number, or impossible for the metric")
    if "epoch" not in numbers:
        if len(table.columns):
            files.gap(name, "has no column `epoch`")
        return pd.DataFrame()
    if count := int(numbers["epoch"].isna().sum()):
        files.gap(name, f"{counted(count, 'line')} left out: no epoch number")
    numbers = numbers.dropna(subset="epoch").dropna(axis=1, how="all")
    if numbers.empty:
        files.gap(name, "has no epoch")
    elif not any(column.startswith(("delta/", "grad/")) for column in numbers):
        files.gap(name, "has no δ and no gradient norms (delta/…, grad/…)")
    return numbers.reset_index(drop=True)


def _possible(name: str, values: Any) -> Any:
    """Whether these values are possible for the metric."""
    if name in ("epoch", "step"):
        return (values >= 0) & (values % 1 == 0)
    if name.endswith("/acc") or name.startswith("units/"):
        return (values >= 0) & (values <= 1)
    return values == values  # false for NaN only


def _read_result(files: _Files, name: str, absent: str) -> RunResult:
    result = files.load(name, RunResult, absent)
    for kind in ("metrics", "best"):
        values = {key: value for key, value in getattr(result, kind).items() if value is not None}
        for key in [key for key, value in values.items() if not _possible(key, value)]:
            files.gap(name, f"{kind}.{key} is left out: {values.pop(key)} is impossible")
        setattr(result, kind, values)
    return result


def _overrides(files: _Files, name: str, absent: str = "is missing") -> list[str]:
    return [as_written(text(each)) for each in files.yaml(name, list, absent) or []]


def _outcome(result: RunResult) -> dict[str, Any]:
    """A job's result in the columns of sweep.csv."""
    values = {"seconds": result.seconds, "parameters": result.parameters} | result.best
    values[result.objective.name] = result.objective.value
    tested = {name: value for name, value in result.metrics.items() if name.startswith("test/")}
    best = {f"best {name}": value for name, value in values.items()}
    return {"status": result.status, "seconds": result.seconds, "error": result.error, **tested, **best}


def _flat(config: dict[Any, Any]) -> dict[str, str]:
    """A nested configuration with its keys joined by dots and `${a.b}` replaced by its value."""
    leaves = pd.json_normalize(config).to_dict("records")[0] if config else {}
    flat = {text(key): text(value) for key, value in islice(leaves.items(), MOST_ENTRIES)}
    return {key: flat.get(value[2:-1], value) if value.startswith("${") else value for key, value in flat.items()}
