"""What is on the page of the report: the sections of a run, of a sweep, or of several folders side by side."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import numpy as np
import pandas as pd

from backhand.config.validation import larger_is_better
from backhand.reporting import charts
from backhand.reporting.charts import Figure, Table
from backhand.reporting.comparison import against_first, over_seeds, paired
from backhand.reporting.findings import Findings
from backhand.reporting.folder import (
    NO_RESULT,
    Objective,
    RunFolder,
    RunResult,
    SweepFolder,
    read_epochs,
    read_folder,
    read_run,
    text,
)
from backhand.reporting.terminal import counted, number, short

MOST_GAPS = 40
MOST_FAILURES = 200
TASK = ("data.name", "model.loss")  # runs that differ in them have no paired difference
SAME = (*TASK, "data.path", "data.split_seed", "objective")  # else the page says so
TESTED = ("test/acc", "test/r2", "test/mae", "test/loss")  # the first of them is the one that people ask for
# Said with a sign as well, for a colour alone is not seen by everybody.
SIGNS = {"finished": "✓", "diverged": "↗", "failed": "✗", "interrupted": "‖", NO_RESULT: "…"}


@dataclass(frozen=True)
class Pictures:
    """PNGs in base64 side by side, each with the lines below it, which describe it, too."""

    pictures: list[tuple[str, list[str]]]
    small: bool = False
    kind: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Section:
    """A part of the page; `note` is the sentence below its heading. Without blocks and note it is left out."""

    name: str
    title: str
    blocks: Sequence[Figure | Table | Pictures] = ()
    note: str = ""


@dataclass
class Page:
    """The whole of it.

    Attributes:
        tiles: the numbers that matter most: label, value and a note.
        gaps: what could not be read, a line each.
        comparisons: paired differences of sweeps by their names.
        remarks: what makes a comparison less than it seems, a line each; they are among the gaps, too.
    """

    title: str
    subtitle: str
    statuses: Counter[str]
    tiles: list[tuple[str, str, str]]
    gaps: list[str]
    sections: list[Section]
    comparisons: dict[str, pd.DataFrame] = field(default_factory=dict)
    remarks: Sequence[str] = ()


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
        page = _comparison(found)
    elif isinstance(found[0], SweepFolder):
        page = _sweep_page(found[0], beside)
    else:
        page = _run_page(found[0])
    page.sections = [section for section in page.sections if section.blocks or section.note]
    if len(page.gaps) > MOST_GAPS:
        page.gaps[MOST_GAPS:] = [f"and {len(page.gaps) - MOST_GAPS} more"]
    return page


def _named(folder: RunFolder | SweepFolder) -> str:
    """A run's own name, or its folder's with the one above, which names the sweep or the day."""
    own = folder.settings.get("name", "null") if isinstance(folder, RunFolder) else "null"
    return own if own not in ("null", "") else text("/".join(folder.path.absolute().parts[-2:]))


def _written(name: str, value: float | None) -> str:
    return "" if value is None or np.isnan(value) else number(name.rpartition("/")[2], value)


def _signed(status: str) -> str:
    return f"{SIGNS.get(status, '?')}\u00a0{status}"


def _run_page(run: RunFolder) -> Page:
    findings, known = run.findings, run.settings | run.result.chosen
    keys = (
        *("data.name", "model.hidden", "model.hidden_activation", "model.output_activation", "model.loss"),
        *("optimizer.name", "optimizer.lr", "seed"),
        *(["model.gradient"] if known.get("model.gradient") != "hand" else []),
    )
    weights = [(png, [f"unit {place}"]) for place, png in enumerate(findings.weights or [])]
    return Page(
        _named(run),
        " · ".join(f"{key.removesuffix('.name').rpartition('.')[2]} {known[key]}" for key in keys if key in known)
        or text(run.path),
        Counter([run.status]),
        _tiles(run.result, run.epochs),
        run.gaps,
        [
            Section("error", "Why it failed", note=run.result.error or ""),
            Section("metrics", "Metrics", _metrics(run)),
            Section("curves", "Learning curves", charts.curves(run)),
            Section("test", "On the test split", charts.on_test_split(findings)),
            Section("worst", "Worst predictions", *_worst(findings)),
            Section("weights", "The weights into each hidden unit", [Pictures(weights, small=True)] if weights else []),
            Section("network", "Inside the network", charts.diagnostics(run)),
            Section("settings", "Settings", _settings(run)),
            Section("provenance", "Where it comes from", [_provenance(run)]),
        ],
    )


def _tiles(result: RunResult, epochs: pd.DataFrame) -> list[tuple[str, str, str]]:
    tested = [name for name in TESTED if name in result.metrics]
    tiles: list[tuple[str, str, str]] = [(name, _written(name, result.metrics[name]), "") for name in tested[:2]]
    name, value = result.objective.name, result.objective.value
    if value is not None:
        best = epochs["epoch"][np.isclose(epochs[name], value, rtol=1e-9, atol=0)].tolist() if name in epochs else []
        tiles.append((f"best {name}", _written(name, value), f"epoch {best[0] + 1:.0f}" if best else ""))
    if result.audit.worst is not None:
        tiles.append(
            ("worst gradient error", f"{result.audit.worst:.0e}", f"in {counted(result.audit.times, 'audit')}")
        )
    if result.audit.angle is not None:
        note = "δ of the hidden layers, on average"
        tiles.append(("angle to backpropagation", f"{result.audit.angle:.0f}°", note))
    if result.seconds is not None:
        # A run that began with another's checkpoint counts that one's epochs, but has neither its rows nor its seconds.
        here, all_epochs = len(epochs), counted(result.epochs or 0, "epoch")
        told = all_epochs if here in (0, result.epochs) else f"{here:,} of {all_epochs}"
        tiles.append(("training", f"{_written('seconds', result.seconds)} s", told))
    if result.parameters is not None:
        tiles.append(("parameters", f"{result.parameters:,.0f}", ""))
    return tiles


def _metrics(run: RunFolder) -> list[Table]:
    """A row a metric: the best epoch's, whose checkpoint was tested, and the last epoch's."""
    metrics = run.result.metrics or {name: run.epochs[name].iloc[-1] for name in run.epochs if name.startswith("val/")}
    tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
    last = {name: value for name, value in metrics.items() if name not in tested}
    columns = {"best epoch" if run.result.best else "test": run.result.best | tested, "last epoch": last}
    names = sorted(
        {**columns["last epoch"], **run.result.best, **tested}, key=lambda name: (name.partition("/")[2], name)
    )
    rows = {head: [_written(name, values.get(name)) for name in names] for head, values in columns.items() if values}
    return (
        [Table("Test metrics are those of the best epoch's checkpoint", pd.DataFrame({"metric": names, **rows}))]
        if names
        else []
    )


def _worst(findings: Findings) -> tuple[list[Table | Pictures], str]:
    """The most wrong predictions in their order in findings.json, as pictures where they are pictures."""
    rows = [
        {
            "sample": text(each["id"]),
            "target": text(each["target"]),
            "prediction": text(each["prediction"]),
            "loss": np.nan if each["loss"] is None else each["loss"],
        }
        for each in findings.worst
    ]
    if not rows:
        return [], ""
    note = "The test samples with the highest loss."
    if findings.confusion:
        counts = np.array(findings.confusion)
        wrong = counts.sum() - counts.trace()
        note = f"{wrong:,} of {counts.sum():,} test samples were misclassified; they come first, then by the loss."
    pictures = [
        (
            each["picture"],
            [f"{row['target']} → {row['prediction']}", f"loss {row['loss']:.3g}", f"sample {row['sample']}"],
        )
        for each, row in zip(findings.worst, rows, strict=True)
        if each["picture"]
    ]
    return [Pictures(pictures) if pictures else Table("Worst predictions", pd.DataFrame(rows), sortable=True)], note


def _settings(run: RunFolder) -> list[Table]:
    """What is set; what was set on the command line is marked, what is null is left out."""
    given = {override.partition("=")[0].lstrip("+~") for override in run.overrides}
    shown = {key: value for key, value in run.settings.items() if value not in ("null", "[]") or key in given}
    marked = frozenset(place for place, key in enumerate(shown) if given & {key, key.removesuffix(".name")})
    told = ["● set on the command line" if place in marked else "" for place in range(len(shown))]
    frame = pd.DataFrame({"key": shown.keys(), "value": shown.values(), "": told}, dtype=object)
    return [Table("The composed configuration, without what is null", frame, marked=marked)] if shown else []


def _provenance(run: RunFolder) -> Table:
    result = run.result
    known = {
        "folder": text(run.path.absolute()),
        "command line": " ".join(run.overrides),
        **{
            name: text(getattr(result, name) or "")
            for name in ("device", "steps", "epochs", "population", "git_commit")
        },
        **{f"version of {name}": version for name, version in result.versions.items()},
    }
    rows = [(key, value) for key, value in known.items() if value]
    return Table("Device, versions and origin", pd.DataFrame(rows, columns=["", " "]))


def _sweep_page(sweep: SweepFolder, beside: Path) -> Page:
    runs, ranked, means = sweep.runs, sweep.ranked, _means(sweep)
    failed = runs[(runs["status"] != NO_RESULT) & ~runs.index.isin(ranked.index)]
    tiles, curves = [], []
    if len(means) and means["runs"].max() > 1:
        first, top = sweep.objectives[0], means.iloc[0]
        told = ", ".join([*(f"{key}={short(top[key])}" for key in _but_seed(sweep)), f"{top['runs']:.0f} seeds"])
        tiles.append((f"best mean {first}", _written(first, top[first]), told))
    if len(ranked):
        best = ranked.iloc[0]
        told = ", ".join([f"job {best['job']}", *(f"{key}={short(best[key])}" for key in sweep.settings)])
        shown = [sweep.objectives[0], *[name for name in TESTED if name in sweep.metrics][:1]]
        tiles += [(f"{name} of the best run", _written(name, best[name]), told) for name in shown]
        folder = sweep.folder_of(best["job"])
        curves = charts.curves(read_run(folder)) if folder else []
    tiles.append(("runs", f"{len(runs):,}", f"{len(failed)} failed" if len(failed) else "none failed"))
    tiles.append(("training", f"{_written('seconds', runs['seconds'].sum())} s", "all runs together"))
    directions = [f"{name}, {'higher' if larger_is_better(name) else 'lower'} is better" for name in sweep.objectives]
    over = f"a sweep of {counted(len(runs), 'run')} over {', '.join(sweep.settings) or 'no settings'}"
    reasons = failed[["job", *sweep.settings, "status"]].assign(
        reason=failed["error"].replace("", "no finite value of the objective")
    )
    caption = f"{len(failed)} of {len(runs)} failed; at most {MOST_FAILURES} are shown"
    return Page(
        _named(sweep),
        " · ".join([over, *directions]),
        Counter(runs["status"]),
        tiles,
        sweep.gaps,
        [
            Section("seeds", "Means over seeds", _means_table(sweep, means)),
            Section("pairs", "Differences by seed", _differences_table(sweep, means)),
            Section("compare", "What made the difference", charts.sweep_figures(sweep, means)),
            Section("curves", "Learning curves, means over seeds", _mean_curves(sweep, means)),
            Section("best", "The best run", curves),
            Section("runs", "All runs", _runs_table(sweep, beside)),
            Section("failures", "What failed", [Table(caption, reasons[:MOST_FAILURES])] if len(failed) else []),
            Section("settings", "How it was started", note=" ".join(sweep.overrides)),
        ],
    )


def _but_seed(sweep: SweepFolder) -> list[str]:
    return [key for key in sweep.settings if key != "seed"]


def _means(sweep: SweepFolder) -> pd.DataFrame:
    """The means over seeds, the best first; of a sweep without seeds its runs. Empty where no run has a value."""
    if sweep.ranked.empty:
        return pd.DataFrame()
    ended = sweep.runs[sweep.runs["status"] != NO_RESULT]
    seeded = ended if "seed" in ended else ended.assign(seed=ended["job"])
    return over_seeds(seeded, sweep.settings, sweep.metrics)


def _means_table(sweep: SweepFolder, means: pd.DataFrame) -> list[Table]:
    if means.empty or means["runs"].max() < 2:
        return []
    frame = means[[*_but_seed(sweep), "runs", "failed"]].copy()
    for metric in sweep.metrics:
        frame[metric], frame[f"± {metric}"] = means[metric], means[f"{metric} high"] - means[metric]
    caption = "Means of the runs that differ in their seed only, the best first; ± is half of the 95 % t-interval"
    return [Table(caption, frame, sortable=True)]


def _differences_table(sweep: SweepFolder, means: pd.DataFrame) -> list[Table]:
    if means.empty or means["runs"].max() < 2:
        return []
    ended = sweep.runs[sweep.runs["status"] != NO_RESULT]
    found = against_first(ended, sweep.settings, sweep.metrics)
    if found.empty:
        return []
    frame = found[[*_but_seed(sweep), "pairs"]].copy()
    for metric in sweep.metrics:
        frame[metric], frame[f"± {metric}"] = found[metric], found[f"{metric} high"] - found[metric]
    first = ", ".join(f"{key}={ended[key].iloc[0]}" for key in _but_seed(sweep))
    caption = f"Each setting minus {first}, over the pairs of runs with the same seed; ± is half of the 95 % t-interval"
    return [Table(caption, frame, sortable=True)]


def _mean_curves(sweep: SweepFolder, means: pd.DataFrame) -> list[Figure]:
    """Of the best settings, as many as there are colours."""
    if len(means) < 2 or means["runs"].max() < 2:
        return []
    first, best = sweep.objectives[0], means.dropna(subset=sweep.objectives[:1]).head(len(charts.COLOURS))
    return charts.overlaid(
        {
            ", ".join(short(row[key]) for key in _but_seed(sweep)): _mean_run(
                sweep, _of_setting(sweep, row).dropna(subset=first), row
            ).epochs
            for _, row in best.iterrows()
        }
    )


def _of_setting(sweep: SweepFolder, setting: pd.Series) -> pd.DataFrame:
    """The runs that have ended with these settings, whatever their seed."""
    keys = _but_seed(sweep)
    return sweep.runs[(sweep.runs[keys] == setting[keys]).all(axis=1) & (sweep.runs["status"] != NO_RESULT)]


def _runs_table(sweep: SweepFolder, beside: Path) -> list[Table]:
    frame = sweep.runs.drop(columns="error").assign(status=sweep.runs["status"].map(_signed))
    best = list(sweep.ranked.index[:1])
    frame.loc[best, "status"] += "\u00a0★\u00a0best"
    links = {place: _href(folder, beside) for place, job in enumerate(frame["job"]) if (folder := sweep.folder_of(job))}
    caption = "Validation metrics are of the best epoch, test metrics of its checkpoint"
    return [Table(caption, frame, sortable=True, marked=frozenset(best), links=links)] if len(frame) else []


def _href(folder: Path, beside: Path) -> str:
    """From the page to a run's own report, or to its folder where it has none."""
    report = (folder / "report.html").is_file()
    # A first part with a colon in it would be read as a scheme; quote leaves none.
    return quote(os.fsencode(os.path.relpath(folder.absolute(), beside.absolute()))) + (
        "/report.html" if report else "/"
    )


def _comparison(found: Sequence[RunFolder | SweepFolder]) -> Page:
    runs: dict[str, RunFolder] = {}
    seeds: dict[str, pd.DataFrame] = {}
    gaps = [f"{text(each.path)}/{gap}" for each in found for gap in each.gaps]
    remarks = []
    for each in found:
        path = text(each.path)
        if isinstance(each, RunFolder):
            named = _named(each)
            runs[path if path.endswith(named) else f"{named} ({path})"] = each
        elif len(means := _means(each)):
            # The setting with the best mean stands for a sweep, and never its best seed.
            best, keys, first = means.iloc[0], _but_seed(each), each.objectives[0]
            chosen = _of_setting(each, best)
            setting = ", ".join(f"{key}={short(best[key])}" for key in keys)
            name = f"{path} ({setting})" if keys else path
            seeds[name] = chosen.drop_duplicates("seed") if "seed" in chosen else chosen
            runs[name] = _mean_run(each, seeds[name].dropna(subset=first), best)
            gaps += [f"{name}: {gap}" for gap in runs[name].gaps]
            if failed := seeds[name][first].isna().sum():
                remarks.append(f"{name}: means without {failed} of {counted(len(seeds[name]), 'run')}, which failed")
        else:
            gaps.append(f"{path}: a sweep without a run that has a value")
    if differ := _differing(runs.values(), SAME):
        remarks.append(f"not the same for all, so that metrics may not compare: {'; '.join(differ)}")
    compared, unpaired = _paired(runs, seeds)
    remarks += unpaired
    frame = pd.DataFrame(
        [
            {
                "run": name,
                "runs": int(seeds[name][run.result.objective.name].count()) if name in seeds else 1,
                "status": _signed(run.status),
                f"best {run.result.objective.name}": run.result.objective.value,
                **{name: value for name, value in run.result.metrics.items() if name.startswith("test/")},
                "seconds": run.result.seconds,
            }
            for name, run in runs.items()
        ]
    )
    caption = "Test metrics are those of the best epoch's checkpoint; a sweep's are means over its best setting's runs"
    frame = frame.astype(dict.fromkeys(frame.columns[3:], float))
    pairs = (
        "The mean difference of the runs with the same seeds, of each sweep's best setting; left out are seeds that "
        "failed or that only one sweep has. Validation metrics are of the best epoch, test metrics of its checkpoint."
        if compared
        else ""
    )
    curves = charts.overlaid({name: run.epochs for name, run in runs.items()})
    of_means = "A sweep's curve is the mean of its best setting's runs, as long as all of them were trained."
    return Page(
        f"{len(runs)} side by side",
        " · ".join(runs),
        Counter(run.status for run in runs.values()),
        [],
        gaps + remarks,
        [
            Section("pairs", "Paired differences", [Table(*each) for each in written_pairs(compared)], pairs),
            Section("metrics", "Metrics", [Table(caption, frame, sortable=True)] if runs else []),
            Section("curves", "Learning curves", curves, of_means if seeds and curves else ""),
            Section("settings", "Settings", _compared(runs)),
        ],
        compared,
        remarks,
    )


def _paired(runs: dict[str, RunFolder], seeds: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The paired differences of any two sweeps; and of which there is none and why, a line each."""
    compared, unpaired = {}, []
    for a, b in combinations(seeds, 2):
        metrics = [name for name in seeds[a].columns.intersection(seeds[b].columns, sort=False) if "/" in name]
        good = [set(seeds[each].dropna(subset=metrics[:1]).get("seed", ())) for each in (a, b)]
        if differ := _differing([runs[a], runs[b]], TASK):
            reason = f"differ in {' and '.join(differ)}"
        elif not metrics:
            reason = "have no metric in common"
        elif len(good[0] & good[1]) < 2:
            reason = "have fewer than two seeds in common"
        else:
            compared[f"a = {a}, b = {b}"] = paired(seeds[a], seeds[b], metrics)
            continue
        unpaired.append(f"{a} and {b}: no paired difference, for they {reason}")
    return compared, unpaired


def _differing(runs: Iterable[RunFolder], keys: Sequence[str]) -> list[str]:
    """Of these settings those that are not the same for all runs, with their values."""
    known = [run.settings | run.result.chosen for run in runs]
    values = {key: list(dict.fromkeys(each[key] for each in known if key in each)) for key in keys}
    return [f"{key} ({', '.join(each)})" for key, each in values.items() if len(each) > 1]


def _mean_run(sweep: SweepFolder, chosen: pd.DataFrame, means: pd.Series) -> RunFolder:
    """Runs of one setting as one run: their means, and the settings that they share.

    An epoch that not all of them have has no mean: those that go on may be the better or the worse ones.
    """
    folders = [folder for job in chosen["job"] if (folder := sweep.folder_of(job))]
    epochs = [found for folder in folders if "epoch" in (found := read_epochs(folder))]
    any_run = read_run(folders[0]) if folders else None
    mean, gaps = pd.DataFrame(), []
    if epochs:
        rows = pd.concat(epochs).groupby("epoch")
        mean = rows.mean().where(rows.count() == len(epochs)).dropna(how="all").dropna(axis=1, how="all").reset_index()
    if lost := len(chosen) - len(epochs):
        gaps.append(f"its curves are without {lost} of {counted(len(chosen), 'run')}, whose metrics.csv cannot be read")
    first = sweep.objectives[0]
    result = RunResult(
        status="finished",
        objective=Objective(name=first, value=float(means[first])),
        metrics={name: float(means[name]) for name in sweep.metrics if pd.notna(means[name])},
        seconds=None if chosen["seconds"].isna().all() else float(chosen["seconds"].mean()),
        chosen=any_run.result.chosen if any_run else {},
    )
    shared = {key: value for key, value in any_run.settings.items() if key != "seed"} if any_run else {}
    return RunFolder(sweep.path, shared, [], mean, result, Findings(), gaps)


def written_pairs(comparisons: dict[str, pd.DataFrame]) -> list[tuple[str, pd.DataFrame]]:
    """Paired differences as text, for the page and for the terminal: a table by its name."""
    return [
        (
            name,
            pd.DataFrame(
                {"metric": metric, "pairs": f"{row['pairs']:.0f}", "left out": f"{row['left_out']:.0f}"}
                | {key: _written(metric, row[key]) for key in ("a", "b")}
                | {"b − a": _written(metric, row["difference"])}
                | {"95 % interval": f"{_written(metric, row['low'])} to {_written(metric, row['high'])}"}
                for metric, row in pairs.iterrows()
            ),
        )
        for name, pairs in comparisons.items()
    ]


def _compared(runs: dict[str, RunFolder]) -> list[Table]:
    """The settings that differ first and marked, then what all have in common."""
    frame = pd.DataFrame({name: run.settings for name, run in runs.items()}, dtype=object).fillna("not there")
    differ = frame.nunique(axis=1) > 1
    common = frame[~differ & ~frame.iloc[:, :1].isin(["null", "[]"]).any(axis=1)]
    frame = pd.concat([frame[differ].rename(index="≠ {}".format), common]).reset_index(names="key")
    caption = f"{counted(differ.sum(), 'setting')} with different values, marked with ≠; {len(common)} with the same"
    return [Table(caption, frame, marked=frozenset(range(differ.sum())))] if len(frame) else []
