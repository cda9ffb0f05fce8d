"""A run's or a sweep's folder as it lies on the disk, whole or not: what can be read of it, and what is missing.

A folder may come from another machine, version or person, so nothing in it is trusted: no link is followed out of it,
no file is read beyond a size, and what has the wrong type counts as missing. Secrets in it are read as ***.
"""

import base64
import binascii
import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import yaml

from backhand.config.confidential import masked
from backhand.config.stored import checked_yaml
from backhand.config.validation import larger_is_better
from backhand.errors import UserError
from backhand.reporting.cells import text_of
from backhand.reporting.findings import FINDINGS, MOST_POINTS, MOST_UNITS, WORST
from backhand.reporting.result import Status

RUN_FILES = (".hydra", "metrics.csv", "result.json")
SWEEP_FILES = ("multirun.yaml", "sweep.json", "sweep.csv")
COLUMNS = re.compile(r"(epoch|step|lr|(train|val|delta|grad|audit|units)/.*)", re.DOTALL)
NO_RESULT = "no result"

MOST_TABLE_BYTES = 256 << 20
MOST_BYTES = 32 << 20
MOST_YAML_BYTES = 1 << 20  # its parser takes a second for each MB
MOST_PICTURE_BYTES = 200_000
MOST_COLUMNS = 500
MOST_SETTINGS = 1000
MOST_JOBS = 5000
MOST_LETTERS = 2000
MOST_CLASSES = 200


@dataclass(frozen=True)
class Worst:
    """A prediction that was far off; `picture` is a PNG in base64."""

    id: str
    target: str
    prediction: str
    loss: float
    probability: float | None
    picture: str | None


@dataclass
class Findings:
    """What was found on the test split; None or empty where it is not known."""

    classes: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    scatter: tuple[list[float], list[float]] | None = None
    worst: list[Worst] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)


@dataclass
class RunFolder:
    """What can be read of a run.

    Attributes:
        path: its folder.
        settings: its configuration, nested keys joined with dots, values as text.
        overrides: what was set on the command line.
        epochs: metrics.csv, one list a column; NaN where there is no number.
        result: those entries of result.json that have the right type.
        findings: those of findings.json.
        gaps: what is missing or damaged, a line each.
    """

    path: Path
    settings: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    epochs: dict[str, list[float]] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    gaps: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """As in result.json; `NO_RESULT` where there is none."""
        return str(self.result.get("status", NO_RESULT))

    @property
    def name(self) -> str:
        """The run's own, or its folder's with the one above, which names the sweep or the day."""
        own = self.settings.get("name", "null")
        return own if own not in ("null", "") else "/".join(self.path.absolute().parts[-2:])


@dataclass
class Job:
    """A run of a sweep: what it set, and what became of it.

    Attributes:
        number: its place in the sweep, and its folder's name.
        folder: where it wrote, where that is there.
        settings: what it set, as written.
        status, metrics, seconds, error: as in result.json.
        objective: the metric that it was judged by.
        values: its value of each of the sweep's objectives; none where it did not come to a good end.
    """

    number: int
    folder: Path | None = None
    settings: dict[str, str] = field(default_factory=dict)
    status: str = NO_RESULT
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    error: str | None = None
    objective: str = ""
    values: list[float] = field(default_factory=list)


@dataclass
class SweepFolder:
    """What can be read of a sweep.

    Attributes:
        path: its folder.
        jobs: its runs by number.
        swept: the settings that differ between them.
        objectives: what they were judged by, the first one first of all.
        overrides: what the sweep was started with.
        gaps: what is missing or damaged, a line each.
    """

    path: Path
    jobs: list[Job] = field(default_factory=list)
    swept: list[str] = field(default_factory=list)
    objectives: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its folder's, with the one above."""
        return "/".join(self.path.absolute().parts[-2:])

    @property
    def ranked(self) -> list[Job]:
        """The jobs with a value, best first; of equal ones the earlier."""
        found = [job for job in self.jobs if job.values]
        sign = -1 if self.objectives and larger_is_better(self.objectives[0]) else 1
        return sorted(found, key=lambda job: sign * job.values[0])


def check_folder(path: Path) -> None:
    """Refuse what is neither a run's folder nor a sweep's.

    Raises:
        UserError: one line that says what it is not.
    """
    if not path.is_dir():
        raise UserError(f"{path}: {'is not a folder' if path.exists() else 'no such folder'}")
    if not any((path / name).exists() for name in (*RUN_FILES, *SWEEP_FILES)):
        raise UserError(
            f"{path}: neither a run's folder, which has {', '.join(RUN_FILES[:-1])} or {RUN_FILES[-1]}, "
            f"nor a sweep's, which has {', '.join(SWEEP_FILES[:-1])} or {SWEEP_FILES[-1]}"
        )


def read_folder(path: Path) -> RunFolder | SweepFolder:
    """Read what there is.

    Raises:
        UserError: the folder is neither a run's nor a sweep's.
    """
    check_folder(path)
    is_sweep = any((path / name).exists() for name in SWEEP_FILES)
    return read_sweep(path) if is_sweep else read_run(path)


def read_run(path: Path) -> RunFolder:
    """A run's folder, however little of it is there."""
    files = _Files(path)
    run = RunFolder(path, gaps=files.gaps)
    run.settings = masked(_flat(files.yaml(".hydra/config.yaml", dict) or {}))
    run.overrides = masked([_text(each) for each in files.yaml(".hydra/overrides.yaml", list) or []])
    run.epochs = _read_epochs(files)
    run.result = _read_result(files, "result.json")
    run.findings = _read_findings(files)
    return run


def read_sweep(path: Path) -> SweepFolder:
    """A sweep's folder: its runs' own files, and `sweep.csv` for what they do not say."""
    files = _Files(path)
    sweep = SweepFolder(path, gaps=files.gaps)
    claim = files.json("sweep.json")
    told = claim.get("overrides") if claim else None
    sweep.overrides = masked([_text(each) for each in told]) if isinstance(told, list) else []
    rows, names = _read_sweep_table(files)
    numbers = {int(each.name) for each in path.iterdir() if each.name.isdecimal() and each.name.isascii()}
    every = sorted(numbers | rows.keys())
    begun = claim.get("jobs", []) if claim else []
    if not isinstance(begun, list):
        files.gap("sweep.json", "jobs is of the wrong type")
    elif gone := len(set(range(len(begun))) - set(every)):
        files.gap("the sweep", f"had {len(begun)} jobs; of {gone} there is neither a folder nor a row in sweep.csv")
    if len(every) > MOST_JOBS:
        files.gap("the sweep", f"has {len(every)} jobs, of which the first {MOST_JOBS} are shown")
    best: dict[int, dict[str, float]] = {}
    for number in every[:MOST_JOBS]:
        job, best[number] = _read_job(files, number, rows.get(number, {}))
        sweep.jobs.append(job)
    _complete(sweep.jobs, rows)
    lost = [str(job.number) for job in sweep.jobs if job.folder is None]
    if lost:
        files.gap("the sweep", f"the folders of jobs {', '.join(lost[:20])} are not there; sweep.csv tells of them")
    keys = dict.fromkeys(key for job in sweep.jobs for key in job.settings)
    sweep.swept = [key for key in keys if len({job.settings.get(key, "") for job in sweep.jobs}) > 1]
    judged = [job.objective for job in sweep.jobs if job.objective]
    sweep.objectives = names or judged[:1]
    for job in sweep.jobs:
        values = [best[job.number].get(name, math.nan) for name in sweep.objectives]
        good = job.status == "finished" and all(math.isfinite(value) for value in values)
        job.values = values if good else []
        if job.status == "finished" and not good and job.error is None:
            job.error = "no finite value of the objective"
    return sweep


class _Files:
    """The files of one folder; what cannot be read is added to `gaps`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.real = root.resolve()
        self.gaps: list[str] = []

    def gap(self, name: str, reason: str) -> None:
        self.gaps.append(f"{name}: {reason}")

    def read(self, name: str, most: int = MOST_BYTES, absent: str = "is not there") -> str | None:
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

    def json(self, name: str, absent: str = "is not there") -> dict[str, Any] | None:
        return self._parsed(name, json.loads, "JSON", dict, self.read(name, absent=absent))

    def yaml(self, name: str, kind: type, absent: str = "is not there") -> Any:
        text = self.read(name, MOST_YAML_BYTES, absent)
        return self._parsed(name, lambda text: yaml.safe_load(checked_yaml(text)), "YAML", kind, text)

    def _parsed(self, name: str, parse: Callable[[str], Any], form: str, kind: type, text: str | None) -> Any:
        if text is None:
            return None
        if not text.strip():
            self.gap(name, "is empty")
            return None
        try:
            found = parse(text)
        except (ValueError, RecursionError, yaml.YAMLError):
            self.gap(name, f"is damaged: it is no {form}")
            return None
        if not isinstance(found, kind):
            self.gap(name, f"is damaged: it holds no {'list' if kind is list else 'entries'}")
            return None
        return found


def _read_epochs(files: _Files) -> dict[str, list[float]]:
    name = "metrics.csv"
    text = files.read(name, MOST_TABLE_BYTES, "is not there: no curves (the first epoch had not ended)")
    if text is None:
        return {}
    try:
        header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [[]]
    except csv.Error:
        header, rows = [], []
    places = {column: place for place, column in reversed(list(enumerate(header))) if COLUMNS.fullmatch(column)}
    if not places:
        files.gap(name, "is damaged: it has no column that is known")
        return {}
    if rows and not text.endswith(("\n", "\r")):
        rows.pop()
        files.gap(name, "ends in the middle of a line; that epoch is left out")
    whole = [row for row in rows if len(row) == len(header)]
    if len(whole) < len(rows):
        files.gap(name, f"{_lines(len(rows) - len(whole))} with more or fewer cells than the first, left out")
    if "epoch" in places:
        numbered = [row for row in whole if _is_count(_number(row[places["epoch"]]))]
        if len(numbered) < len(whole):
            files.gap(name, f"{_lines(len(whole) - len(numbered))} without the number of an epoch, left out")
        whole = numbered
    if not whole:
        files.gap(name, "has no epoch")
    columns = list(zip(*whole, strict=True)) or [()] * len(header)
    found, strange, impossible = {}, 0, 0
    for column in [each for each in header if each in places][:MOST_COLUMNS]:
        cells = columns[places[column]]
        read = [_number(cell) for cell in cells]
        found[_text(column)] = values = [value if _possible(column, value) else math.nan for value in read]
        impossible += sum(not math.isnan(a) and math.isnan(b) for a, b in zip(read, values, strict=True))
        strange += sum(
            math.isnan(value) and cell != "" and cell.strip().lower().lstrip("+-") != "nan"
            for value, cell in zip(read, cells, strict=True)
        )
    if strange:
        files.gap(name, f"{strange} {'cell is no number' if strange == 1 else 'cells are no numbers'}, left out")
    if impossible:
        files.gap(name, f"{impossible} {'value' if impossible == 1 else 'values'} that cannot be, left out")
    found = {column: values for column, values in found.items() if not all(map(math.isnan, values))}
    if found and not any(column.startswith(("delta/", "grad/")) for column in found):
        files.gap(name, "has no δ and no gradient norms (delta/…, grad/…)")
    return found


def _lines(count: int) -> str:
    return f"{count} {'line' if count == 1 else 'lines'}"


# What each entry of result.json must be; numbers are of either kind, for JSON knows one only.
_RESULT: dict[str, type | tuple[type, ...]] = {
    "status": str,
    "objective": dict,
    "metrics": dict,
    "best": dict,
    "parameters": (int, float),
    "seconds": (int, float),
    "population": (int, float),
    "steps": (int, float),
    "epochs": (int, float),
    "device": str,
    "audit": dict,
    "error": str,
    "chosen": dict,
    "git_commit": str,
    "versions": dict,
}


def _read_result(files: _Files, name: str, absent: str | None = None) -> dict[str, Any]:
    """The entries of the right type; metrics are numbers, the rest of what is nested is text or number."""
    if absent is None:
        absent = "is not there: the run has not ended, or was killed"
    record = files.json(name, absent)
    if record is None:
        return {}
    found: dict[str, Any] = {}
    for key, kind in _RESULT.items():
        value = record.get(key)
        if value is None:
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            files.gap(name, f"{key} is of the wrong type")
        elif isinstance(value, dict):
            plain = {_text(each): _plain(inner) for each, inner in value.items()}
            if key in ("metrics", "best"):
                plain = {each: inner for each, inner in plain.items() if isinstance(inner, float)}
            found[key] = {each: inner for each, inner in plain.items() if inner is not None}
            for each in [each for each, inner in found[key].items() if not _possible(each, inner)]:
                files.gap(name, f"{each} is {found[key].pop(each)}, which cannot be; left out")
        else:
            found[key] = _plain(value)
            if key in _COUNTED and isinstance(found[key], float) and found[key] < 0:
                files.gap(name, f"{key} is {found.pop(key):g}, which cannot be; left out")
    if found.get("status") not in get_args(Status):
        files.gap(name, f"the status {found.pop('status')} is not known" if "status" in found else "says no status")
    return masked({key: value for key, value in found.items() if value is not None})


_COUNTED = ("parameters", "seconds", "population", "steps", "epochs")


def _possible(name: str, value: Any) -> bool:
    """Whether a metric can have this value; of most, any."""
    if name in ("epoch", "step"):
        return _is_count(value)
    if name.endswith("/acc") or name.startswith("units/"):
        return not isinstance(value, float) or not (value < 0 or value > 1)
    return True


def _is_count(value: float) -> bool:
    return value >= 0 and value == math.floor(value) if math.isfinite(value) else False


def _read_job(files: _Files, number: int, row: dict[str, str]) -> tuple[Job, dict[str, float]]:
    """A job, and whatever it may be judged by: from its own files, or from its row of sweep.csv."""
    folder = files.root / str(number)
    inside = folder.resolve().is_relative_to(files.real)
    job = Job(number, folder if inside and folder.is_dir() else None)
    if not inside:
        files.gap(str(number), "is a link out of the folder, and was not followed")
    best = {key.removeprefix("best "): _number(cell) for key, cell in row.items() if key.startswith("best ")}
    keys = list(row)
    job.settings = {key: row[key] for key in keys[1 : keys.index("status")]} if "status" in keys else {}
    job.status, job.error = row.get("status") or NO_RESULT, row.get("error") or None
    job.seconds = _finite(_number(row.get("seconds", "")))
    job.metrics = {key: _number(cell) for key, cell in row.items() if COLUMNS.fullmatch(key) or key.startswith("test/")}
    if job.folder is None:
        return job, best
    given = files.yaml(f"{number}/.hydra/overrides.yaml", list, absent="")
    if given:
        job.settings = masked(dict(_text(each).partition("=")[::2] for each in given))
    record = _read_result(files, f"{number}/result.json", absent="")
    if not record:
        return job, best
    job.status = record.get("status", job.status)
    job.metrics = record.get("metrics", job.metrics)
    job.seconds = record.get("seconds", job.seconds)
    job.error = record.get("error", job.error)
    objective = record.get("objective", {})
    best |= record.get("best", {}) | {key: record[key] for key in ("seconds", "parameters") if key in record}
    if isinstance(objective.get("name"), str):
        job.objective = objective["name"]
        value = objective.get("value")
        best[job.objective] = value if isinstance(value, float) else math.nan
    return job, best


def _complete(jobs: Sequence[Job], rows: Mapping[int, Mapping[str, str]]) -> None:
    """Give jobs of which only sweep.csv tells, and therefore only what differs, what all the others have in common."""
    from_table = [job for job in jobs if job.settings.keys() <= rows.get(job.number, {}).keys()]
    others = [job.settings for job in jobs if job not in from_table]
    shared = set(others[0].items()).intersection(*(each.items() for each in others)) if others else set()
    for job in from_table:
        job.settings = dict(shared) | job.settings


def _read_sweep_table(files: _Files) -> tuple[dict[int, dict[str, str]], list[str]]:
    """The rows of sweep.csv by job, and the objectives that its columns name."""
    name = "sweep.csv"
    text = files.read(name, absent="is not there: the sweep has not ended, or was killed")
    if text is None:
        return {}, []
    rows = []
    try:
        for row in csv.DictReader(io.StringIO(text, newline="")):
            found_cells = {key: cell for key, cell in row.items() if key is not None and cell is not None}
            rows.append({_text(text_of(key)): _text(text_of(cell)) for key, cell in found_cells.items()})
    except csv.Error:
        files.gap(name, "is damaged: it is no CSV")
    rows = masked(rows)
    found = {int(row["job"]): row for row in rows if re.fullmatch(r"[0-9]{1,9}", row.get("job", ""))}
    if len(found) < len(rows) or not rows:
        files.gap(name, "is damaged: " + (f"{_lines(len(rows) - len(found))} without a job" if rows else "no rows"))
    names = [key.removeprefix("best ") for row in rows[:1] for key in row if key.startswith("best ")]
    return found, names


def _read_findings(files: _Files) -> Findings:
    name = FINDINGS
    record = files.json(name, "is not there: no confusion matrix or scatter, weights or worst predictions")
    found = Findings()
    if record is None:
        return found
    with_type: dict[str, Any] = {}
    for key, kind in (("classes", list), ("confusion", list), ("scatter", dict), ("worst", list), ("weights", list)):
        value = record.get(key)
        if value is not None and not isinstance(value, kind):
            files.gap(name, f"{key} is of the wrong type")
        elif value is not None:
            with_type[key] = value
    found.classes = [_text(each) for each in with_type.get("classes", [])]
    if "confusion" in with_type:
        matrix, size = with_type["confusion"], len(found.classes)
        if size > MOST_CLASSES:
            files.gap(name, f"{size} classes are more than a matrix of {MOST_CLASSES} can show")
        elif len(matrix) == size and all(_counts(row, size) for row in matrix):
            found.confusion = matrix
        else:
            files.gap(name, "confusion is not a table of counts with a row and a column for each class")
    if "scatter" in with_type:
        target, prediction = (_numbers(with_type["scatter"].get(key)) for key in ("target", "prediction"))
        if target and len(target) == len(prediction):
            found.scatter = (target[:MOST_POINTS], prediction[:MOST_POINTS])
        else:
            files.gap(name, "scatter is not two lists of numbers of the same length")
    worst = [_worst(each) for each in with_type.get("worst", [])[:WORST]]
    found.worst = [each for each in worst if each is not None]
    weights = [_picture(each) for each in with_type.get("weights", [])[:MOST_UNITS]]
    found.weights = [each for each in weights if each is not None]
    for key, read, kept in (("worst", worst, found.worst), ("weights", weights, found.weights)):
        if len(kept) < len(read):
            files.gap(name, f"{len(read) - len(kept)} of {key} cannot be read, and are left out")
    return found


def _counts(row: Any, size: int) -> bool:
    """Whether it is a row of so many counts; beyond 2⁵³ a browser has no exact number."""
    return isinstance(row, list) and len(row) == size and all(type(each) is int and 0 <= each < 1 << 53 for each in row)


def _numbers(values: Any) -> list[float]:
    """A list of numbers; empty where it is anything else."""
    plain = [_plain(each) for each in values] if isinstance(values, list) else []
    numbers = [each for each in plain if isinstance(each, float)]
    return numbers if len(numbers) == len(plain) else []


def _worst(entry: Any) -> Worst | None:
    loss = _plain(entry.get("loss")) if isinstance(entry, dict) else None
    if not isinstance(loss, float):
        return None
    probability = _plain(entry.get("probability"))
    return Worst(
        _text(entry.get("id")),
        _text(entry.get("target")),
        _text(entry.get("prediction")),
        loss,
        probability if isinstance(probability, float) else None,
        _picture(entry.get("picture")),
    )


def _picture(encoded: Any) -> str | None:
    """A PNG in base64, written anew, so that it is nothing but that."""
    if not isinstance(encoded, str) or len(encoded) > MOST_PICTURE_BYTES:
        return None
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return base64.b64encode(data).decode() if data.startswith(b"\x89PNG\r\n\x1a\n") else None


def _flat(config: dict[Any, Any]) -> dict[str, str]:
    """A nested configuration with its keys joined by dots, and `${a.b}` replaced by what it refers to."""
    flat: dict[str, str] = {}
    for key, value in _leaves(config, ""):
        if len(flat) == MOST_SETTINGS:
            break
        flat[key] = _text(value)
    return {
        key: flat.get(found[1], value) if (found := _REFERENCE.fullmatch(value)) else value
        for key, value in flat.items()
    }


_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def _leaves(node: dict[Any, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        whole = prefix + _text(key)
        if isinstance(value, dict) and value and depth < 20:
            yield from _leaves(value, f"{whole}.", depth + 1)
        else:
            yield whole, value


def _text(value: Any) -> str:
    """Anything as one line of text of bounded length, lists and words as they are written on the command line."""
    if isinstance(value, str):
        return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", value[:MOST_LETTERS])
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list) and len(value) <= 100 and not any(isinstance(each, list | dict) for each in value):
        return f"[{', '.join(map(_text, value))}]"[:MOST_LETTERS]
    if isinstance(value, list | dict):  # nested ones may refer to themselves, and be of any size when written out
        return f"({len(value)} entries)"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)[:MOST_LETTERS] if not isinstance(value, int) or abs(value) < 10**18 else "(a huge number)"


def _plain(value: Any) -> float | str | None:
    """A number as a finite float, text as text; None for anything else."""
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return _finite(float(value))
    except OverflowError:
        return None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(cell: str) -> float:
    """A cell's number; infinite ones and anything else are NaN."""
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
