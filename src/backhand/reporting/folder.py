"""What can be read of a run's or a sweep's folder, and what is missing.

A folder may come from another machine, version or person, so nothing in it is trusted: no link is followed out of it,
no file is read beyond a size, and what has the wrong type counts as missing. Secrets in it are read as ***.
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
from backhand.config.stored import checked_yaml
from backhand.config.validation import larger_is_better
from backhand.errors import UserError
from backhand.reporting.cells import text_of
from backhand.reporting.findings import FINDINGS, Findings
from backhand.reporting.result import Status
from backhand.reporting.terminal import counted

RUN_FILES = (".hydra", "metrics.csv", "result.json")
SWEEP_FILES = ("multirun.yaml", "sweep.json", "sweep.csv")
NO_RESULT = "no result"
WHOLE = ("classes", "confusion", "scatter")  # entries that are left out as a whole where a part is wrong
JOB = re.compile("[0-9]{1,9}")
COLUMNS = re.compile(r"(epoch|step|lr|(train|val|delta|grad|audit|alignment|norm_ratio|units)/.*)", re.DOTALL)
KEY = re.compile(r"(?!(job|runs|failed|status|seconds|error)$)[\w.@-]+")
INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

MOST_BYTES = 32 << 20
MOST_YAML_BYTES = 1 << 20  # its parser takes a second for each MB
MOST_ENTRIES = 1000  # of settings, metrics and columns
MOST_JOBS = 5000
MOST_LETTERS = 2000


def text(value: Any) -> str:
    """Anything as one line of bounded length, as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
        value = f"[{', '.join(map(text, value))}]"
    try:
        value = f"{value:.6g}" if isinstance(value, float) else str(value)
    except ValueError:  # Python refuses to write an integer of more than 4,300 digits
        value = "(a huge number)"
    # Half of a pair of UTF-16, or a byte of a file's name that is no UTF-8, cannot be written.
    return INVISIBLE.sub(" ", value[:MOST_LETTERS]).encode("utf-8", "replace").decode()


Text = Annotated[str, BeforeValidator(text)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]  # what a float can count
Few = BeforeValidator(lambda found: dict(islice(found.items(), MOST_ENTRIES)) if isinstance(found, dict) else found)
Metrics = Annotated[dict[Text, Number | None], Few]
Texts = Annotated[dict[Text, Text], Few]


class Objective(BaseModel):
    """The metric that chose the best epoch, and its best value."""

    name: Text = ""
    value: Number | None = None


class Audit(BaseModel):
    """How often the gradients were audited, and the worst relative error, or the mean angle to backpropagation's."""

    times: Count = 0
    worst: Number | None = None
    angle: Number | None = None


class RunResult(BaseModel):
    """result.json, every entry optional; `backhand.reporting.result.Result` says what they mean."""

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
    """sweep.json: the jobs that were begun, and the sweep's command line."""

    jobs: list[Any] = []
    overrides: list[Text] = []


@dataclass
class RunFolder:
    """What can be read of a run.

    Attributes:
        settings: its configuration, nested keys joined with dots, values as text.
        overrides: what was set on the command line.
        epochs: metrics.csv as numbers, NaN where there is none; `epoch` counts from 0.
        gaps: what is missing or damaged, a line each.
    """

    path: Path
    settings: dict[str, str]
    overrides: list[str]
    epochs: pd.DataFrame
    result: RunResult
    findings: Findings
    gaps: list[str]

    @property
    def status(self) -> str:
        """As in result.json; `NO_RESULT` where there is none."""
        return self.result.status or NO_RESULT


@dataclass
class SweepFolder:
    """What can be read of a sweep.

    Attributes:
        runs: a row a job: `job`, the settings (as text), `status`, the metrics (NaN where the run has not finished),
            `seconds`, `error` ("" for none).
        settings: the columns that differ between the jobs; `seed` is one of them where it was swept.
        objectives: the metrics that the jobs were judged by, the most important first.
        metrics: the objectives, then accuracy and the like, validation's of the best epoch and test's.
        overrides: the sweep's command line.
        gaps: what is missing or damaged, a line each.
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
        """The runs with a value of each objective, best first; of equal ones the earlier."""
        if not self.objectives:
            return self.runs.iloc[:0]
        first = self.objectives[0]
        found = self.runs.dropna(subset=self.objectives)
        return found.sort_values(first, ascending=not larger_is_better(first), kind="stable")

    def folder_of(self, job: int) -> Path | None:
        """A job's folder, where it is there and no link that leads elsewhere."""
        folder = self.path / str(job)
        return folder if folder.is_dir() and folder.resolve().is_relative_to(self.path.resolve()) else None


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep's; else it is a run's.

    Raises:
        UserError: it is neither, or cannot be read.
    """
    try:
        names = {each.name for each in path.iterdir()}
    except OSError as error:
        raise UserError(f"{path}: is no folder that can be read ({error.strerror})") from None
    if names.isdisjoint((*RUN_FILES, *SWEEP_FILES)):
        raise UserError(
            f"{path}: neither a run's folder, which has {', '.join(RUN_FILES[:-1])} or {RUN_FILES[-1]}, "
            f"nor a sweep's, which has {', '.join(SWEEP_FILES[:-1])} or {SWEEP_FILES[-1]}"
        )
    return not names.isdisjoint(SWEEP_FILES)


def read_folder(path: Path) -> RunFolder | SweepFolder:
    """Read what there is.

    Raises:
        UserError: the folder is neither a run's nor a sweep's.
    """
    return read_sweep(path) if is_sweep(path) else read_run(path)


def read_run(path: Path) -> RunFolder:
    """A run's folder, however little of it is there."""
    files = _Files(path)
    return RunFolder(
        path,
        _flat(files.yaml(".hydra/config.yaml", dict) or {}),
        _overrides(files, ".hydra/overrides.yaml"),
        _read_epochs(files),
        _read_result(files, "result.json", "is not there: the run has not ended, or was killed"),
        files.load(FINDINGS, Findings, "is not there: no confusion matrix or scatter, weights or worst predictions"),
        files.gaps,
    )


def read_epochs(path: Path) -> pd.DataFrame:
    """A run's metrics.csv alone, as `RunFolder.epochs`; empty where it cannot be read."""
    return _read_epochs(_Files(path))


def read_sweep(path: Path) -> SweepFolder:
    """A sweep's folder: its runs' own files, and `sweep.csv` for what they do not say."""
    files = _Files(path)
    claim = files.load("sweep.json", SweepClaim)
    table = files.table("sweep.csv", "is not there: the sweep has not ended, or was killed")
    table = table.map(text_of).rename(columns=text_of)
    rows = {int(row["job"]): row for row in table.to_dict("records") if JOB.fullmatch(row.get("job", ""))}
    folders = {int(each.name) for each in path.iterdir() if JOB.fullmatch(each.name)}
    jobs = sorted(folders | rows.keys())
    if len(rows) < len(table):
        files.gap("sweep.csv", f"{counted(len(table) - len(rows), 'line')} without a job of their own, left out")
    if gone := len(set(range(len(claim.jobs))) - set(jobs)):
        files.gap(
            "the sweep",
            f"had {counted(len(claim.jobs), 'job')}; of {gone} there is neither a folder nor a row in sweep.csv",
        )
    if len(jobs) > MOST_JOBS:
        files.gap("the sweep", f"has {len(jobs)} jobs, of which the first {MOST_JOBS} are shown")
    if lost := [str(job) for job in jobs if job not in folders]:
        files.gap("the sweep", f"the folders of jobs {', '.join(lost[:20])} are not there; sweep.csv tells of them")

    jobs = jobs[:MOST_JOBS]
    results = {job: _read_result(files, f"{job}/result.json", absent="") for job in jobs}
    given = {job: _overrides(files, f"{job}/.hydra/overrides.yaml", absent="") for job in jobs}
    pairs = {job: dict(each.lstrip("+").partition("=")[::2] for each in own) for job, own in given.items() if own}
    cells = pd.DataFrame.from_dict(rows, orient="index", dtype=object).reindex(jobs)
    in_table = list(cells)[1 : list(cells).index("status")] if "status" in cells else []
    settings = pd.DataFrame.from_dict(pairs, orient="index", dtype=object).fillna("").combine_first(cells[in_table])
    # Of a job whose folder is gone the table tells what differs; the rest is the same for all.
    swept = [key for key in settings if KEY.fullmatch(key) and settings[key].nunique() > 1]
    settings = settings[sorted(swept, key=[*(key for own in pairs.values() for key in own), *in_table].index)]

    outcomes = {job: _outcome(result) for job, result in results.items() if result.status is not None}
    found = pd.DataFrame.from_dict(outcomes, orient="index", dtype=object).combine_first(cells).reindex(jobs)
    named = [column.removeprefix("best ") for column in cells if column.startswith("best ")]
    judged = [result.objective.name for result in results.values() if result.objective.name]
    objectives = list(dict.fromkeys(named or judged[:1]))
    status = found.get("status", pd.Series(index=jobs, dtype=object)).fillna(NO_RESULT)
    best = {name: f"best {name}" for name in [*objectives, "val/acc", "val/r2"]}
    tested = {name: name for name in sorted(found) if name.startswith("test/")}
    wanted = found.reindex(columns=["seconds", *best.values(), *tested])
    numbers = wanted.apply(pd.to_numeric, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
    numbers = numbers.where(pd.DataFrame({name: _possible(name, numbers[name]) for name in numbers}))
    values = pd.DataFrame(
        {name: numbers[column].where(status == "finished") for name, column in (best | tested).items()}
    )
    metrics = [name for name in values if name in objectives or values[name].notna().any()]
    error = found.get("error", pd.Series(index=jobs, dtype=object)).fillna("")
    ends = [numbers["seconds"].rename("seconds"), error.rename("error")]
    runs = pd.concat([settings.reindex(jobs).fillna(""), status.rename("status"), values[metrics], *ends], axis=1)
    runs = runs.loc[:, ~runs.columns.duplicated()].reset_index(names="job")
    return SweepFolder(path, runs, list(settings), objectives, metrics, claim.overrides, files.gaps)


Model = TypeVar("Model", bound=BaseModel)


class _Files:
    """The files of one folder; what cannot be read is added to `gaps`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.real = root.resolve()
        self.gaps: list[str] = []

    def gap(self, name: str, reason: str) -> None:
        self.gaps.append(f"{name}: {reason}")

    def read(self, name: str, most: int, absent: str) -> str | None:
        """A file's text; a link is followed within the folder only."""
        try:
            path = (self.root / name).resolve()
            if not path.is_relative_to(self.real):
                self.gap(name, "is a link out of the folder, and was not followed")
            elif not path.exists():
                if absent:
                    self.gap(name, absent)
            elif not path.is_file():
                self.gap(name, "is not a file")
            elif path.stat().st_size > most:
                self.gap(name, f"has more than {most >> 20} MB, and was not read")
            else:
                return path.read_bytes().decode("utf-8-sig", "replace")
        except (OSError, RuntimeError) as error:  # RuntimeError: links that go round in a circle
            self.gap(name, f"cannot be read ({getattr(error, 'strerror', None) or 'links in a circle'})")
        return None

    def load(self, name: str, model: type[Model], absent: str = "is not there") -> Model:
        """A JSON file without those of its entries that are of the wrong type, each of which is a gap."""
        record = self._parsed(name, json.loads, dict, self.read(name, MOST_BYTES, absent)) or {}
        while True:
            try:
                return model.model_validate(record)
            except ValidationError as error:
                wrong = error.errors(include_url=False, include_context=False, include_input=False)
            places = [each["loc"][: 1 if each["loc"][0] in WHOLE else 2] for each in wrong]
            for each, place in zip(wrong, places, strict=True):
                self.gap(name, f"{text('.'.join(map(str, place)))} is left out: {each['msg']}")
            for *parents, last in reversed(dict.fromkeys(places)):
                del (record[parents[0]] if parents else record)[last]

    def yaml(self, name: str, kind: type, absent: str = "is not there") -> Any:
        found = self.read(name, MOST_YAML_BYTES, absent)
        return self._parsed(name, lambda found: yaml.safe_load(checked_yaml(found)), kind, found)

    def _parsed(self, name: str, parse: Callable[[str], Any], kind: type, found: str | None) -> Any:
        if found is None:
            return None
        try:
            parsed = masked(parse(found))
        except UserError as error:  # it is larger than it looks, or a value is too long
            self.gap(name, text(error))
            return None
        except (ValueError, RecursionError, yaml.YAMLError):
            self.gap(name, "is damaged, or empty")
            return None
        if not isinstance(parsed, kind):
            self.gap(name, f"is damaged: it holds no {'list' if kind is list else 'entries'}")
            return None
        return parsed

    def table(self, name: str, absent: str) -> pd.DataFrame:
        """A CSV file's cells as text, without the lines that are not whole."""
        whole = self.read(name, MOST_BYTES, absent)
        if whole is None:
            return pd.DataFrame()
        if not whole.endswith("\n"):
            self.gap(name, "ends in the middle of a line, which is left out")
            whole = whole[: whole.rfind("\n") + 1]
        try:
            # pandas.read_csv would take the first column for an index where the first line has a cell too many.
            header, *rows = csv.reader(io.StringIO(whole, newline=""))
        except (ValueError, csv.Error):
            self.gap(name, "is damaged, or empty")
            return pd.DataFrame()
        lines = [masked([text(cell) for cell in row]) for row in rows if len(row) == len(header)]
        if len(lines) < len(rows):
            self.gap(
                name, f"{counted(len(rows) - len(lines), 'line')} with more or fewer cells than the first, left out"
            )
        table = pd.DataFrame(lines, columns=masked([text(column) for column in header]), dtype=object)
        return table.loc[:, ~table.columns.duplicated()].iloc[:, :MOST_ENTRIES]


def _read_epochs(files: _Files) -> pd.DataFrame:
    name = "metrics.csv"
    table = files.table(name, "is not there: no curves (the first epoch had not ended)")
    table = table[[column for column in table if COLUMNS.fullmatch(column)]]
    numbers = table.apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    numbers = numbers.where(pd.DataFrame({column: _possible(column, numbers[column]) for column in numbers}))
    if count := int((numbers.isna() & ~table.isin(["", "nan"])).to_numpy().sum()):
        files.gap(name, f"{counted(count, 'cell')} without a number, or with one that cannot be, left out")
    if "epoch" not in numbers:
        if len(table.columns):
            files.gap(name, "has no column with the number of the epoch")
        return pd.DataFrame()
    if count := int(numbers["epoch"].isna().sum()):
        files.gap(name, f"{counted(count, 'line')} without the number of an epoch, left out")
    numbers = numbers.dropna(subset="epoch").dropna(axis=1, how="all")
    if numbers.empty:
        files.gap(name, "has no epoch")
    elif not any(column.startswith(("delta/", "grad/")) for column in numbers):
        files.gap(name, "has no δ and no gradient norms (delta/…, grad/…)")
    return numbers.reset_index(drop=True)


def _possible(name: str, values: Any) -> Any:
    """Whether a metric can have these values."""
    if name in ("epoch", "step"):
        return (values >= 0) & (values % 1 == 0)
    if name.endswith("/acc") or name.startswith("units/"):
        return (values >= 0) & (values <= 1)
    return values == values


def _read_result(files: _Files, name: str, absent: str) -> RunResult:
    result = files.load(name, RunResult, absent)
    for kind in ("metrics", "best"):
        found = {key: value for key, value in getattr(result, kind).items() if value is not None}
        for key in [key for key, value in found.items() if not _possible(key, value)]:
            files.gap(name, f"{kind}.{key} is left out: {found.pop(key)} cannot be")
        setattr(result, kind, found)
    return result


def _overrides(files: _Files, name: str, absent: str = "is not there") -> list[str]:
    return [text(each) for each in files.yaml(name, list, absent) or []]


def _outcome(result: RunResult) -> dict[str, Any]:
    """What became of a job, in the columns of sweep.csv."""
    values = {"seconds": result.seconds, "parameters": result.parameters} | result.best
    values[result.objective.name] = result.objective.value
    tested = {name: value for name, value in result.metrics.items() if name.startswith("test/")}
    best = {f"best {name}": value for name, value in values.items()}
    return {"status": result.status, "seconds": result.seconds, "error": result.error, **tested, **best}


def _flat(config: dict[Any, Any]) -> dict[str, str]:
    """A nested configuration with its keys joined by dots, and `${a.b}` replaced by what it refers to."""
    leaves = pd.json_normalize(config).to_dict("records")[0] if config else {}
    found = {text(key): text(value) for key, value in islice(leaves.items(), MOST_ENTRIES)}
    return {key: found.get(value[2:-1], value) if value.startswith("${") else value for key, value in found.items()}
