"""What is on the page of the report: its sections in order, for the browser and for the terminal."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from backhand.config.validation import larger_is_better
from backhand.reporting.charts import (
    TITLES,
    Cell,
    Chart,
    Table,
    by_class,
    cell,
    confusion,
    curves,
    diagnostics,
    group_table,
    overlaid,
    scatter,
    setting_cell,
    sweep_charts,
)
from backhand.reporting.folder import NO_RESULT, Job, RunFolder, SweepFolder, Worst, read_folder, read_run

MOST_GAPS = 40
MOST_FAILURES = 200
# Said with a sign as well, for a colour alone is not seen by everybody.
SIGNS = {"finished": "✓", "diverged": "↗", "failed": "✗", "interrupted": "‖", NO_RESULT: "…"}


@dataclass(frozen=True)
class Picture:
    """A PNG in base64, what a person who does not see it is told, and the lines below it."""

    png: str | None
    alt: str
    lines: list[str]


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side."""

    pictures: list[Picture]
    small: bool = False
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Listing:
    """Sentences, one below the other."""

    lines: list[str]
    kind: ClassVar[str] = "listing"


@dataclass(frozen=True)
class Link:
    """A line that leads somewhere."""

    text: str
    href: str
    kind: ClassVar[str] = "link"


Block = Chart | Table | Gallery | Listing | Link


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading of its own; `note` is the sentence below it."""

    name: str
    title: str
    blocks: list[Block]
    note: str = ""


@dataclass(frozen=True)
class Tile:
    """One number that matters."""

    label: str
    value: str
    note: str = ""


@dataclass
class Page:
    """The whole of it.

    Attributes:
        title, subtitle: what it is about.
        statuses: each status with how many runs have it.
        tiles: the numbers that matter most.
        gaps: what could not be read, a line each.
        sections: all else.
    """

    title: str
    subtitle: str
    statuses: list[tuple[str, int]]
    tiles: list[Tile] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)


def build_page(folders: Sequence[Path], beside: Path) -> Page:
    """The page of a run, of a sweep, or of several folders side by side.

    Args:
        folders: the runs' and sweeps'.
        beside: the folder that the page's links start from.

    Raises:
        UserError: a folder is neither a run's nor a sweep's.
    """
    found = [read_folder(folder) for folder in folders]
    if len(found) > 1:
        page = _comparison(folders, found)
    elif isinstance(found[0], SweepFolder):
        page = _sweep_page(found[0], beside)
    else:
        page = _run_page(found[0])
    page.sections = [section for section in page.sections if section.blocks]
    if len(page.gaps) > MOST_GAPS:
        page.gaps[MOST_GAPS:] = [f"and {len(page.gaps) - MOST_GAPS} more"]
    return page


def _run_page(run: RunFolder) -> Page:
    findings = run.findings
    pictures = [
        Picture(png, f"First-layer weights of hidden unit {place}", [f"unit {place}"])
        for place, png in enumerate(findings.weights)
    ]
    return Page(
        run.name,
        _described(run),
        [(run.status, 1)],
        _run_tiles(run),
        run.gaps,
        [
            *_errors(run),
            Section("metrics", "Metrics", _present(_metrics_table(run))),
            Section("curves", "Learning curves", [*curves(run)]),
            Section(
                "test",
                "On the test split",
                _present(confusion(findings), by_class(findings), scatter(findings), _worst_table(findings.worst)),
            ),
            Section(
                "worst",
                "Worst predictions",
                _worst_gallery(findings.worst),
                "The test samples with the highest loss, the worst first.",
            ),
            Section(
                "weights",
                "What the first layer looks for",
                [Gallery(pictures, small=True)] if pictures else [],
                "The weights into a hidden unit as a picture of the input.",
            ),
            Section("network", "Inside the network", [*diagnostics(run)]),
            Section("settings", "Settings", _settings_tables(run)),
            Section("provenance", "Where it comes from", _present(_provenance(run))),
        ],
    )


def _errors(run: RunFolder) -> list[Section]:
    error = run.result.get("error")
    return [Section("error", "Why it failed", [Listing([error])])] if error else []


def _described(run: RunFolder) -> str:
    """The run in a line, as far as its configuration is known."""
    known = run.settings
    if "model.hidden" not in known:
        return str(run.path)
    words = [
        known.get("data.name", ""),
        f"hidden {known['model.hidden']} {known.get('model.hidden_activation', '')}",
        f"{_chosen(run, 'model.output_activation')} with {_chosen(run, 'model.loss')}",
        f"{known.get('optimizer.name', '')} at {known.get('optimizer.lr', '')}",
        f"seed {known.get('seed', '')}",
    ]
    return " · ".join(word.strip() for word in words if word.strip())


def _chosen(run: RunFolder, key: str) -> str:
    """A setting, or what it turned out to be where it was `auto`."""
    return str(run.result.get("chosen", {}).get(key, run.settings.get(key, "")))


def _run_tiles(run: RunFolder) -> list[Tile]:
    result, tiles = run.result, []
    metrics = result.get("metrics", {})
    for name, title in (
        ("test/acc", "test accuracy"),
        ("test/r2", "test R²"),
        ("test/mae", "test mean absolute error"),
    ):
        if name in metrics:
            tiles.append(Tile(title, cell(name, metrics[name]).text))
    if "test/loss" in metrics and len(tiles) < 2:
        tiles.append(Tile("test loss", cell("loss", metrics["test/loss"]).text))
    objective = result.get("objective", {})
    name, value = objective.get("name"), objective.get("value")
    if isinstance(name, str) and isinstance(value, float):
        tiles.append(Tile(f"best {name}", cell(name, value).text, _epoch_of(run, name, value)))
    audit = result.get("audit", {})
    if isinstance(audit.get("worst"), float):
        times = _counted(audit["times"], "audit") if isinstance(audit.get("times"), float) else ""
        tiles.append(Tile("worst gradient error", f"{audit['worst']:.0e}", times))
    seconds, epochs, parameters = (result.get(key) for key in ("seconds", "epochs", "parameters"))
    if seconds is not None:
        note = _counted(epochs, "epoch") if epochs is not None else ""
        tiles.append(Tile("training", f"{cell('seconds', seconds).text} s", note))
    if parameters is not None:
        tiles.append(Tile("parameters", f"{parameters:,.0f}"))
    return tiles


def _counted(number: float, what: str) -> str:
    return f"{number:,.0f} {what}{'' if number == 1 else 's'}"


def _epoch_of(run: RunFolder, name: str, value: float) -> str:
    """Where the objective was best."""
    for epoch, found in enumerate(run.epochs.get(name, []), 1):
        if abs(found - value) <= 1e-9 * max(abs(value), 1):
            return f"epoch {epoch}"
    return ""


def _metrics_table(run: RunFolder) -> Table | None:
    """A row a metric, a column a split: the best epoch's, whose checkpoint was tested, and the last epoch's."""
    metrics, best = run.result.get("metrics", {}), run.result.get("best", {})
    caption = "The best epoch's metrics, on the test split too, and the last epoch's"
    if not best:
        caption = "The last epoch's metrics; no epoch was the best"
    if not metrics:
        metrics = {name: values[-1] for name, values in run.epochs.items() if name.startswith(("train/", "val/"))}
        caption = "The last epoch's metrics, from metrics.csv"
    if not metrics:
        return None
    of_best = {"training (best epoch)": (best, "train"), "validation (best epoch)": (best, "val")}
    test = {"test (best epoch)" if best else "test": (metrics, "test")}
    of_last = {"training (last epoch)": (metrics, "train"), "validation (last epoch)": (metrics, "val")}
    columns = of_best | test | of_last
    columns = {
        head: (values, split)
        for head, (values, split) in columns.items()
        if any(name.startswith(f"{split}/") for name in values)
    }
    names = dict.fromkeys(name.partition("/")[2] for name in metrics)
    rows = [
        [Cell(name), *(cell(name, values.get(f"{split}/{name}")) for values, split in columns.values())]
        for name in sorted(names, key=lambda name: [*TITLES, name].index(name))
    ]
    return Table(caption, ["metric", *columns], rows)


def _worst_gallery(worst: Sequence[Worst]) -> list[Block]:
    pictures = [
        Picture(
            each.picture,
            f"Sample {each.id}: {each.target}, taken for {each.prediction}",
            [f"{each.target} → {each.prediction}", f"loss {each.loss:.3g}{_sure(each)}", f"sample {each.id}"],
        )
        for each in worst
    ]
    return [Gallery(pictures)] if _have_pictures(worst) else []


def _worst_table(worst: Sequence[Worst]) -> Table | None:
    """Of samples that are no pictures, beside what else is known of the test split."""
    if not worst or _have_pictures(worst):
        return None
    sure = any(each.probability is not None for each in worst)
    rows = [
        [
            Cell(each.id),
            setting_cell(each.target),
            setting_cell(each.prediction),
            cell("loss", each.loss),
            *([cell("acc", each.probability)] if sure else []),
        ]
        for each in worst
    ]
    heads = ["sample", "target", "prediction", "loss", *(["p(target)"] if sure else [])]
    return Table("The test samples with the highest loss, the worst first", heads, rows, sortable=True, wide=False)


def _have_pictures(worst: Sequence[Worst]) -> bool:
    return any(each.picture is not None for each in worst)


def _sure(worst: Worst) -> str:
    return "" if worst.probability is None else f", p(target) {worst.probability:.0%}"


def _settings_tables(run: RunFolder) -> list[Block]:
    """What is set; what was set on the command line is marked, what is null is left out."""
    given = {override.partition("=")[0].lstrip("+~") for override in run.overrides}
    shown = [(key, value) for key, value in run.settings.items() if value not in ("null", "[]") or key in given]
    marked = frozenset(place for place, (key, _) in enumerate(shown) if given & {key, key.removesuffix(".name")})
    rows = [
        [Cell(key), setting_cell(value), Cell("● set on the command line" if place in marked else "")]
        for place, (key, value) in enumerate(shown)
    ]
    left = len(run.settings) - len(shown)
    caption = "The composed configuration" + (f"; {left} keys that are null are left out" if left else "")
    return [Table(caption, ["key", "value", ""], rows, marked=marked)] if rows else []


def _provenance(run: RunFolder) -> Table | None:
    result = run.result
    numbers: dict[str, str] = {key: f"{result[key]:,.0f}" for key in ("steps", "epochs", "population") if key in result}
    known: dict[str, str] = {
        "folder": str(run.path.absolute()),
        "command line": " ".join(run.overrides),
        "device": result.get("device", ""),
        **numbers,
        "git commit": result.get("git_commit", ""),
        **{f"version of {name}": str(version) for name, version in result.get("versions", {}).items()},
    }
    rows = [[Cell(key), Cell(value)] for key, value in known.items() if value]
    return Table("Device, versions and origin", ["", ""], rows)


def _sweep_page(sweep: SweepFolder, beside: Path) -> Page:
    ranked = sweep.ranked
    failed = [job for job in sweep.jobs if job.error is not None or job.status not in ("finished", NO_RESULT)]
    statuses = Counter(job.status for job in sweep.jobs)
    tiles = [Tile("runs", f"{len(sweep.jobs):,}", f"{len(failed)} failed" if failed else "none failed")]
    sections = []
    if ranked:
        best, name = ranked[0], sweep.objectives[0]
        own = ", ".join(f"{key}={best.settings.get(key, '')}" for key in sweep.swept)
        tiles.insert(0, Tile(f"best {name}", cell(name, best.values[0]).text, f"job {best.number}"))
        for test in ("test/acc", "test/r2", "test/loss"):
            if test in best.metrics:
                tiles.insert(1, Tile(f"its {test}", cell(test, best.metrics[test]).text))
                break
        sections.append(_best_section(best, own, beside))
    seconds = sum(job.seconds or 0.0 for job in sweep.jobs)
    tiles.append(Tile("training", f"{cell('seconds', seconds).text} s", "all runs together"))
    sections += [
        Section("compare", "What made the difference", [*sweep_charts(sweep)]),
        Section(
            "seeds",
            "Over seeds",
            _present(group_table(sweep)),
            "Means and 95 % t-intervals of the runs that differ in their seed only.",
        ),
        Section("runs", "All runs", _present(_runs_table(sweep, beside))),
        Section("failures", "What failed", _present(_failures(sweep, failed))),
        Section("settings", "How it was started", [Listing([" ".join(sweep.overrides)])] if sweep.overrides else []),
    ]
    direction = f" · {' and '.join(_direction(name) for name in sweep.objectives)}" if sweep.objectives else ""
    return Page(
        sweep.name,
        f"a sweep of {len(sweep.jobs):,} runs over {', '.join(sweep.swept) or 'no settings'}{direction}",
        statuses.most_common(),
        tiles,
        sweep.gaps,
        sections,
    )


def _direction(name: str) -> str:
    return f"{name}, {'higher' if larger_is_better(name) else 'lower'} is better"


def _best_section(best: Job, own: str, beside: Path) -> Section:
    blocks: list[Block] = []
    if best.folder is not None:
        blocks = [Link(f"job {best.number}: {own}" if own else f"job {best.number}", _href(best.folder, beside))]
        blocks += curves(read_run(best.folder))
    else:
        blocks = [Listing([f"job {best.number}: {own}; its folder is not there"])]
    return Section("best", f"The best run: job {best.number}", blocks)


def _runs_table(sweep: SweepFolder, beside: Path) -> Table | None:
    if not sweep.jobs:
        return None
    metrics = [
        name
        for name in dict.fromkeys(name for job in sweep.jobs for name in job.metrics)
        if name.startswith("test/") or name in ("val/acc", "val/r2")
    ][:6]
    best = sweep.ranked[0].number if sweep.ranked else None
    rows = [
        [
            Cell(
                f"{job.number}\u00a0★\u00a0best" if job.number == best else str(job.number),
                job.number,
                None if job.folder is None else _href(job.folder, beside),
            ),
            *(setting_cell(job.settings.get(key, "")) for key in sweep.swept),
            _status(job.status),
            *(cell(name, job.values[place] if job.values else None) for place, name in enumerate(sweep.objectives)),
            *(cell(name, job.metrics.get(name)) for name in metrics),
            cell("seconds", job.seconds),
        ]
        for job in sweep.jobs
    ]
    # An objective's value is the best epoch's, and so are the test metrics; those of validation are the last epoch's.
    heads = [name if name.startswith("test/") else f"last {name}" for name in metrics]
    columns = ["job", *sweep.swept, "status", *(f"best {name}" for name in sweep.objectives), *heads, "seconds"]
    marked = frozenset(place for place, job in enumerate(sweep.jobs) if job.number == best)
    return Table("All runs", columns, rows, sortable=True, marked=marked)


def _failures(sweep: SweepFolder, failed: Sequence[Job]) -> Table | None:
    if not failed:
        return None
    rows = [
        [
            Cell(str(job.number)),
            Cell(", ".join(f"{key}={job.settings.get(key, '')}" for key in sweep.swept)),
            _status(job.status),
            Cell(job.error or "no reason was written"),
        ]
        for job in failed[:MOST_FAILURES]
    ]
    caption = f"{len(failed)} of {len(sweep.jobs)} failed" + (
        f"; the first {len(rows)}" if len(rows) < len(failed) else ""
    )
    return Table(caption, ["job", "settings", "status", "reason"], rows)


def _status(status: str) -> Cell:
    return Cell(f"{SIGNS.get(status, '?')}\u00a0{status}")


def _href(folder: Path, beside: Path) -> str:
    """From the page to a run's own report, or to its folder where it has none."""
    target = folder / "report.html" if (folder / "report.html").is_file() else folder
    where = quote(os.path.relpath(target.absolute(), beside.absolute()))
    # A first part with a colon in it would be read as a scheme; quote leaves none.
    return where if target.suffix == ".html" else f"{where}/"


def _comparison(folders: Sequence[Path], found: Sequence[RunFolder | SweepFolder]) -> Page:
    runs: dict[str, RunFolder] = {}
    gaps = []
    for folder, each in zip(folders, found, strict=True):
        name = str(folder)
        if isinstance(each, SweepFolder):
            gaps += [f"{folder}/{gap}" for gap in each.gaps]
            best = next((job for job in each.ranked if job.folder is not None), None)
            if best is None or best.folder is None:
                gaps.append(f"{folder}: a sweep without a run that could stand for it")
                continue
            name, each = f"{folder}, best of {len(each.jobs)}: job {best.number}", read_run(best.folder)
        gaps += [f"{each.path}/{gap}" for gap in each.gaps]
        own = each.settings.get("name", "null")
        name = name if own in ("null", "") else f"{own} ({name})"
        runs[name] = each
    metrics = list(dict.fromkeys(name for run in runs.values() for name in run.result.get("metrics", {})))
    caption = "The last epoch's training and validation metrics, and the best checkpoint's on the test split"
    rows = [
        [
            Cell(name),
            _status(run.status),
            *(cell(metric, run.result.get("metrics", {}).get(metric)) for metric in metrics),
            cell("", run.result.get("epochs")),
            cell("", run.result.get("seconds")),
        ]
        for name, run in runs.items()
    ]
    return Page(
        f"{len(runs)} runs side by side",
        " · ".join(runs),
        Counter(run.status for run in runs.values()).most_common(),
        [],
        gaps,
        [
            Section(
                "metrics",
                "Metrics",
                [Table(caption, ["run", "status", *metrics, "epochs", "seconds"], rows, sortable=True)] if rows else [],
            ),
            Section("curves", "Learning curves", [*overlaid(runs)]),
            Section("settings", "Settings", _compared(runs)),
        ],
    )


def _compared(runs: Mapping[str, RunFolder]) -> list[Block]:
    """The settings that differ first and marked, then what all have in common."""
    keys = dict.fromkeys(key for run in runs.values() for key in run.settings)
    values = {key: [run.settings.get(key, "not there") for run in runs.values()] for key in keys}
    differ = [key for key in keys if len(set(values[key])) > 1]
    common = [key for key in keys if key not in differ and values[key][0] not in ("null", "[]")]
    rows = [
        [Cell(f"≠ {key}" if key in differ else key), *(setting_cell(value) for value in values[key])]
        for key in [*differ, *common]
    ]
    caption = f"{len(differ)} settings differ, marked with ≠; {len(common)} are the same"
    return [Table(caption, ["key", *runs], rows, marked=frozenset(range(len(differ))))] if rows else []


def _present(*blocks: Block | None) -> list[Block]:
    return [block for block in blocks if block is not None]
