"""The sections of a report of a run, of a sweep, or of several folders that are compared."""

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
from backhand.reporting.comparison import against_first, failures, over_seeds, paired
from backhand.reporting.error_analysis import ErrorAnalysis
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
from backhand.reporting.terminal import counted, format_metric, short

EPOCHS = "Epochs are counted from 1 in this report and from 0 in metrics.csv."
MOST_GAPS = 40
MOST_FAILURES = 200
TASK = ("data.name", "model.loss")  # runs that differ in one of them are not paired
COMPARABLE = (*TASK, "data.path", "data.split_seed", "objective")  # runs that differ in one of them get a remark
MOST_NAMED = 6  # of the other settings that differ, in a remark
ONE_SPLIT = (
    "all seeds have the same test samples: the intervals do not contain the luck of the split; for that, add "
    "'data.split_seed=${seed}' to the sweeps"
)
TEST_METRICS = ("test/acc", "test/r2", "test/mae", "test/loss")  # the most important first
# A sign beside the colour, for readers who do not see the colour.
SIGNS = {"finished": "✓", "diverged": "↗", "failed": "✗", "interrupted": "‖", NO_RESULT: "…"}


@dataclass(frozen=True)
class Pictures:
    """A row of PNGs in base64, each with lines of text that are also its description."""

    pictures: list[tuple[str, list[str]]]
    small: bool = False
    kind: ClassVar[str] = "pictures"


@dataclass(frozen=True)
class Section:
    """A part of the report with a `note` under its heading; left out if it has neither blocks nor a note."""

    name: str
    title: str
    blocks: Sequence[Figure | Table | Pictures] = ()
    note: str = ""


@dataclass
class Report:
    """The content of a report.

    Attributes:
        tiles: the most important numbers: label, value and a note.
        gaps: what could not be read, a line each.
        comparisons: paired differences of sweeps by their names.
        remarks: the limits of a comparison, a line each.
    """

    title: str
    subtitle: str
    statuses: Counter[str]
    tiles: list[tuple[str, str, str]]
    gaps: list[str]
    sections: list[Section]
    comparisons: dict[str, pd.DataFrame] = field(default_factory=dict)
    remarks: Sequence[str] = ()


def build_report(folders: Sequence[Path], report_folder: Path) -> Report:
    """Build the report of a run, of a sweep, or of several folders that are compared.

    Args:
        folders: folders of runs and of sweeps.
        report_folder: the folder that the report's links are relative to.

    Raises:
        UserError: a folder is neither a run's nor a sweep's.
    """
    contents = [read_folder(folder) for folder in folders]
    if len(contents) > 1:
        report = _comparison(contents)
    elif isinstance(contents[0], SweepFolder):
        report = _sweep_report(contents[0], report_folder)
    else:
        report = _run_report(contents[0])
    report.sections = [section for section in report.sections if section.blocks or section.note]
    if len(report.gaps) > MOST_GAPS:
        report.gaps[MOST_GAPS:] = [f"and {len(report.gaps) - MOST_GAPS} more"]
    return report


def _name_of(folder: RunFolder | SweepFolder) -> str:
    """The name of a run, or the last two parts of its path: the sweep or the day, and the folder."""
    name = folder.settings.get("name", "null") if isinstance(folder, RunFolder) else "null"
    return name if name not in ("null", "") else text("/".join(folder.path.absolute().parts[-2:]))


def _formatted(name: str, value: float | None) -> str:
    return "" if value is None or np.isnan(value) else format_metric(name.rpartition("/")[2], value)


def _with_sign(status: str) -> str:
    return f"{SIGNS.get(status, '?')}\u00a0{status}"


def _run_report(run: RunFolder) -> Report:
    analysis, settings = run.error_analysis, run.settings | run.result.chosen
    keys = (
        *("data.name", "model.hidden", "model.hidden_activation", "model.output_activation", "model.loss"),
        *("optimizer.name", "optimizer.lr", "seed"),
        *(["model.gradient"] if settings.get("model.gradient") != "hand" else []),
    )
    weights = [(png, [f"unit {unit}"]) for unit, png in enumerate(analysis.weights or [])]
    return Report(
        _name_of(run),
        " · ".join(f"{key.removesuffix('.name').rpartition('.')[2]} {settings[key]}" for key in keys if key in settings)
        or text(run.path),
        Counter([run.status]),
        _tiles(run.result, run.epochs),
        run.gaps,
        [
            Section("error", "Why it failed", note=run.result.error or ""),
            Section("metrics", "Metrics", _metrics(run)),
            _curves("Learning curves", charts.curves(run)),
            Section("test", "On the test split", charts.on_test_split(analysis)),
            Section("worst", "Worst predictions", *_worst(analysis)),
            Section("weights", "The weights into each hidden unit", [Pictures(weights, small=True)] if weights else []),
            Section("network", "Inside the network", charts.diagnostics(run)),
            Section("settings", "Settings", _settings(run)),
            Section("provenance", "Device, versions and origin", [_provenance(run)]),
        ],
    )


def _tiles(result: RunResult, epochs: pd.DataFrame) -> list[tuple[str, str, str]]:
    tested = [name for name in TEST_METRICS if name in result.metrics]
    tiles: list[tuple[str, str, str]] = [(name, _formatted(name, result.metrics[name]), "") for name in tested[:2]]
    name, value = result.objective.name, result.objective.value
    if value is not None:
        best = epochs["epoch"][np.isclose(epochs[name], value, rtol=1e-9, atol=0)].tolist() if name in epochs else []
        tiles.append((f"best {name}", _formatted(name, value), f"epoch {best[0] + 1:.0f}" if best else ""))
    if result.audit.worst is not None:
        tiles.append(
            ("worst gradient error", f"{result.audit.worst:.0e}", f"in {counted(result.audit.times, 'audit')}")
        )
    if result.audit.angle is not None:
        note = "δ of the hidden layers, on average"
        tiles.append(("angle to backpropagation", f"{result.audit.angle:.0f}°", note))
    if result.seconds is not None:
        # A run resumed in a new folder counts the epochs of the earlier run but has neither their rows nor seconds.
        here, all_epochs = len(epochs), counted(result.epochs or 0, "epoch")
        note = all_epochs if here in (0, result.epochs) else f"{here:,} of {all_epochs}"
        tiles.append(("training", f"{_formatted('seconds', result.seconds)} s", note))
    if result.parameters is not None:
        tiles.append(("parameters", f"{result.parameters:,.0f}", ""))
    return tiles


def _metrics(run: RunFolder) -> list[Table]:
    """One row per metric: its values in the best epoch, whose checkpoint is tested, and in the last epoch."""
    metrics = run.result.metrics or {name: run.epochs[name].iloc[-1] for name in run.epochs if name.startswith("val/")}
    tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
    last = {name: value for name, value in metrics.items() if name not in tested}
    columns = {"best epoch" if run.result.best else "test": run.result.best | tested, "last epoch": last}
    names = sorted(
        {**columns["last epoch"], **run.result.best, **tested}, key=lambda name: (name.partition("/")[2], name)
    )
    rows = {head: [_formatted(name, values.get(name)) for name in names] for head, values in columns.items() if values}
    return (
        [Table("Test metrics are those of the best epoch's checkpoint", pd.DataFrame({"metric": names, **rows}))]
        if names
        else []
    )


def _worst(analysis: ErrorAnalysis) -> tuple[list[Table | Pictures], str]:
    """The worst predictions in the order of findings.json, as pictures if the inputs are pictures."""
    rows = [
        {
            "sample": text(each["id"]),
            "target": text(each["target"]),
            "prediction": text(each["prediction"]),
            "loss": np.nan if each["loss"] is None else each["loss"],
        }
        for each in analysis.worst
    ]
    if not rows:
        return [], ""
    note = "The test samples with the highest loss."
    if analysis.confusion:
        counts = np.array(analysis.confusion)
        wrong = counts.sum() - counts.trace()
        note = f"{wrong:,} of {counts.sum():,} test samples were misclassified; these come first, ordered by loss."
    pictures = [
        (
            each["picture"],
            [f"{row['target']} → {row['prediction']}", f"loss {row['loss']:.3g}", f"sample {row['sample']}"],
        )
        for each, row in zip(analysis.worst, rows, strict=True)
        if each["picture"]
    ]
    return [Pictures(pictures) if pictures else Table("Worst predictions", pd.DataFrame(rows), sortable=True)], note


def _settings(run: RunFolder) -> list[Table]:
    """The settings that are not null, with those of the command line marked."""
    given = {override.partition("=")[0].lstrip("+~") for override in run.overrides}
    shown = {key: value for key, value in run.settings.items() if value not in ("null", "[]") or key in given}
    marked = frozenset(row for row, key in enumerate(shown) if given & {key, key.removesuffix(".name")})
    notes = ["● set on the command line" if row in marked else "" for row in range(len(shown))]
    frame = pd.DataFrame({"key": shown.keys(), "value": shown.values(), "": notes}, dtype=object)
    return [Table("The composed configuration, without null values", frame, marked=marked)] if shown else []


def _provenance(run: RunFolder) -> Table:
    result = run.result
    entries = {
        "folder": text(run.path.absolute()),
        "command line": " ".join(run.overrides),
        **{
            name: text(getattr(result, name) or "")
            for name in ("device", "steps", "epochs", "population", "git_commit")
        },
        **{f"version of {name}": version for name, version in result.versions.items()},
    }
    rows = [(key, value) for key, value in entries.items() if value]
    return Table("Of the run", pd.DataFrame(rows, columns=["", " "]))


def _sweep_report(sweep: SweepFolder, report_folder: Path) -> Report:
    runs, ranked, means = sweep.runs, sweep.ranked, _means(sweep)
    failed = runs[(runs["status"] != NO_RESULT) & ~runs.index.isin(ranked.index)]
    tiles, curves = [], []
    if len(means) and means["runs"].max() > 1:
        first, top = sweep.objectives[0], means.iloc[0]
        note = ", ".join([*(f"{key}={short(top[key])}" for key in _without_seed(sweep)), f"{top['runs']:.0f} seeds"])
        tiles.append((f"best mean {first}", _formatted(first, top[first]), note))
    if len(ranked):
        best = ranked.iloc[0]
        note = ", ".join([f"job {best['job']}", *(f"{key}={short(best[key])}" for key in sweep.settings)])
        shown = [sweep.objectives[0], *[name for name in TEST_METRICS if name in sweep.metrics][:1]]
        tiles += [(f"{name} of the best run", _formatted(name, best[name]), note) for name in shown]
        folder = sweep.folder_of(best["job"])
        curves = charts.curves(read_run(folder)) if folder else []
    tiles.append(("runs", f"{len(runs):,}", f"{len(failed)} failed" if len(failed) else "none failed"))
    tiles.append(("training", f"{_formatted('seconds', runs['seconds'].sum())} s", "all runs together"))
    directions = [f"{name}, {'higher' if larger_is_better(name) else 'lower'} is better" for name in sweep.objectives]
    swept = f"a sweep of {counted(len(runs), 'run')} over {', '.join(sweep.settings) or 'no settings'}"
    reasons = charts.rounded(failed[["job", *sweep.settings, "status"]], sweep.settings).assign(
        reason=failed["error"].replace("", "no finite value of the objective")
    )
    caption = f"{len(failed)} of {len(runs)} failed; at most {MOST_FAILURES} are shown"
    return Report(
        _name_of(sweep),
        " · ".join([swept, *directions]),
        Counter(runs["status"]),
        tiles,
        sweep.gaps,
        [
            Section("seeds", "Means over seeds", _means_table(sweep, means)),
            Section("pairs", "Differences by seed", _differences_table(sweep, means)),
            Section("compare", "Effect of each setting", charts.sweep_figures(sweep, means)),
            _curves("Learning curves, means over seeds", _mean_curves(sweep, means)),
            _curves("The best run", curves, name="best"),
            Section("runs", "All runs", _runs_table(sweep, report_folder)),
            Section("failures", "Failed runs", [Table(caption, reasons[:MOST_FAILURES])] if len(failed) else []),
            Section("settings", "Command line", note=" ".join(sweep.overrides)),
        ],
    )


def _curves(title: str, figures: Sequence[Figure], note: str = "", name: str = "curves") -> Section:
    """Curves by epoch with the note on how epochs are counted."""
    return Section(name, title, figures, f"{note} {EPOCHS}".strip() if figures else "")


def _without_seed(sweep: SweepFolder) -> list[str]:
    return [key for key in sweep.settings if key != "seed"]


def _means(sweep: SweepFolder) -> pd.DataFrame:
    """The means over seeds, the best first; the runs if no seed was swept. Empty if no run has an objective."""
    if sweep.ranked.empty:
        return pd.DataFrame()
    ended = sweep.runs[sweep.runs["status"] != NO_RESULT]
    seeded = ended if "seed" in ended else ended.assign(seed=ended["job"])
    return over_seeds(seeded, sweep.settings, sweep.metrics)


def _means_table(sweep: SweepFolder, means: pd.DataFrame) -> list[Table]:
    if means.empty or means["runs"].max() < 2:
        return []
    frame = charts.rounded(means[[*_without_seed(sweep), "runs"]], _without_seed(sweep)).assign(failed=failures(means))
    for metric in sweep.metrics:
        frame[metric], frame[f"± {metric}"] = means[metric], means[f"{metric} high"] - means[metric]
    caption = "Means of the runs that differ only in their seed, the best first and settings with failures last"
    return [Table(f"{caption}; ± is half of the 95 % t-interval", frame, sortable=True)]


def _differences_table(sweep: SweepFolder, means: pd.DataFrame) -> list[Table]:
    if means.empty or means["runs"].max() < 2:
        return []
    ended = sweep.runs[sweep.runs["status"] != NO_RESULT]
    differences = against_first(ended, sweep.settings, sweep.metrics)
    if differences.empty:
        return []
    frame = charts.rounded(differences[[*_without_seed(sweep), "pairs"]], _without_seed(sweep))
    for metric in sweep.metrics:
        frame[metric], frame[f"± {metric}"] = differences[metric], differences[f"{metric} high"] - differences[metric]
    first = ", ".join(f"{key}={short(ended[key].iloc[0])}" for key in _without_seed(sweep))
    caption = f"Each setting minus {first}, over the pairs of runs with the same seed; ± is half of the 95 % t-interval"
    return [Table(caption, frame, sortable=True)]


def _mean_curves(sweep: SweepFolder, means: pd.DataFrame) -> list[Figure]:
    """The mean curves of the best settings, at most one per colour."""
    if len(means) < 2 or means["runs"].max() < 2:
        return []
    first, best = sweep.objectives[0], means.dropna(subset=sweep.objectives[:1]).head(len(charts.COLOURS))
    return charts.overlaid(
        {
            ", ".join(short(row[key]) for key in _without_seed(sweep)): _mean_run(
                sweep, _of_setting(sweep, row).dropna(subset=first), row
            ).epochs
            for _, row in best.iterrows()
        }
    )


def _of_setting(sweep: SweepFolder, setting: pd.Series) -> pd.DataFrame:
    """The runs with these settings, of any seed, that have ended."""
    keys = _without_seed(sweep)
    return sweep.runs[(sweep.runs[keys] == setting[keys]).all(axis=1) & (sweep.runs["status"] != NO_RESULT)]


def _runs_table(sweep: SweepFolder, report_folder: Path) -> list[Table]:
    frame = charts.rounded(sweep.runs.drop(columns="error"), sweep.settings)
    frame["status"] = frame["status"].map(_with_sign)
    best = list(sweep.ranked.index[:1])
    frame.loc[best, "status"] += "\u00a0★\u00a0best"
    links = {
        row: _href(folder, report_folder) for row, job in enumerate(frame["job"]) if (folder := sweep.folder_of(job))
    }
    caption = "Validation metrics are of the best epoch, test metrics of its checkpoint"
    return [Table(caption, frame, sortable=True, marked=frozenset(best), links=links)] if len(frame) else []


def _href(folder: Path, report_folder: Path) -> str:
    """The relative link to a run's report, or to its folder if it has no report."""
    # `quote` also escapes colons: a browser would read the part before one as a scheme.
    path = quote(os.fsencode(os.path.relpath(folder.absolute(), report_folder.absolute())))
    return path + ("/report.html" if (folder / "report.html").is_file() else "/")


def _comparison(folders: Sequence[RunFolder | SweepFolder]) -> Report:
    runs: dict[str, RunFolder] = {}
    seeds: dict[str, pd.DataFrame] = {}
    gaps = [f"{text(each.path)}/{gap}" for each in folders for gap in each.gaps]
    remarks: list[str] = []
    one_split = False
    for each in folders:
        path = text(each.path)
        if isinstance(each, RunFolder):
            name = _name_of(each)
            runs[path if path.endswith(name) else f"{name} ({path})"] = each
        elif len(means := _means(each)):
            # A sweep is represented by the setting with the best mean, never by its best seed.
            best, keys, first = means.iloc[0], _without_seed(each), each.objectives[0]
            chosen = _of_setting(each, best)
            setting = ", ".join(f"{key}={short(best[key])}" for key in keys)
            name = f"{path} ({setting})" if keys else path
            seeds[name] = chosen.drop_duplicates("seed") if "seed" in chosen else chosen
            runs[name] = _mean_run(each, seeds[name].dropna(subset=first), best)
            one_split = one_split or _has_one_split(each, seeds[name])
            gaps += [f"{name}: {gap}" for gap in runs[name].gaps]
            if failed := seeds[name][first].isna().sum():
                remarks.append(f"{name}: {failed} of {counted(len(seeds[name]), 'run')} failed and are not averaged")
        else:
            gaps.append(f"{path}: no run of the sweep has an objective")
    if one_split:
        remarks.append(ONE_SPLIT)
    if differ := _differing(runs.values(), COMPARABLE):
        remarks.append(f"metrics may not be comparable, for these settings differ: {'; '.join(differ)}")
    others = {key: None for run in runs.values() for key in run.settings if key not in (*COMPARABLE, "seed")}
    if differ := _differing(runs.values(), [*others]):
        more = f"; {len(differ) - MOST_NAMED} more under Settings" if len(differ) > MOST_NAMED else ""
        remarks.append(f"settings that differ: {'; '.join(differ[:MOST_NAMED])}{more}")
    compared, unpaired = _paired(runs, seeds)
    remarks += unpaired
    frame = pd.DataFrame(
        [
            {
                "run": name,
                "runs": int(seeds[name][run.result.objective.name].count()) if name in seeds else 1,
                "status": _with_sign(run.status),
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
        "The mean difference of the runs with the same seeds, of each sweep's best setting. Seeds that failed or that "
        "only one sweep has are left out. Validation metrics are of the best epoch, test metrics of its checkpoint."
        if compared
        else ""
    )
    curves = charts.overlaid({name: run.epochs for name, run in runs.items()})
    of_means = "A sweep's curve is the mean over its best setting's runs, up to the epoch where the first of them ends."
    sweeps = sum(isinstance(each, SweepFolder) for each in folders)
    kinds = {"run": len(folders) - sweeps, "sweep": sweeps}
    return Report(
        f"Comparison of {' and '.join(counted(count, kind) for kind, count in kinds.items() if count)}",
        " · ".join(runs),
        Counter(run.status for run in runs.values()),
        [],
        gaps,
        [
            Section("pairs", "Paired differences", [Table(*each) for each in format_pairs(compared)], pairs),
            Section("metrics", "Metrics", [Table(caption, frame, sortable=True)] if runs else []),
            _curves("Learning curves", curves, of_means if seeds else ""),
            Section("settings", "Settings", _compared(runs)),
        ],
        compared,
        remarks,
    )


def _paired(runs: dict[str, RunFolder], seeds: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The paired differences of any two sweeps, and a line for each pair without one that says why."""
    compared, unpaired = {}, []
    for a, b in combinations(seeds, 2):
        metrics = [name for name in seeds[a].columns.intersection(seeds[b].columns, sort=False) if "/" in name]
        finished = [set(seeds[each].dropna(subset=metrics[:1]).get("seed", ())) for each in (a, b)]
        if differ := _differing([runs[a], runs[b]], TASK):
            reason = f"differ in {' and '.join(differ)}"
        elif not metrics:
            reason = "have no metric in common"
        elif len(finished[0] & finished[1]) < 2:
            reason = "have fewer than two seeds in common"
        else:
            compared[f"a = {a}, b = {b}"] = paired(seeds[a], seeds[b], metrics)
            continue
        unpaired.append(f"{a} and {b}: no paired difference, because they {reason}")
    return compared, unpaired


def _differing(runs: Iterable[RunFolder], keys: Sequence[str]) -> list[str]:
    """Those of the settings that are not the same for all runs, with their values."""
    settings = [run.settings | run.result.chosen for run in runs]
    values = {key: list(dict.fromkeys(each[key] for each in settings if key in each)) for key in keys}
    return [f"{key} ({', '.join(each)})" for key, each in values.items() if len(each) > 1]


def _has_one_split(sweep: SweepFolder, chosen: pd.DataFrame) -> bool:
    """Whether runs of several seeds were tested on the same samples, by the settings of the first two."""
    folders = [folder for job in chosen["job"] if (folder := sweep.folder_of(job))][:2]
    splits = [read_run(folder).settings.get("data.split_seed") for folder in folders]
    return len(splits) == 2 and splits[0] == splits[1] is not None


def _mean_run(sweep: SweepFolder, chosen: pd.DataFrame, means: pd.Series) -> RunFolder:
    """The mean of runs with the same settings, as one run.

    It ends with the shortest run: those that were trained for longer may be the better or the worse ones.
    """
    folders = [folder for job in chosen["job"] if (folder := sweep.folder_of(job))]
    epochs = [rows for folder in folders if "epoch" in (rows := read_epochs(folder))]
    any_run = read_run(folders[0]) if folders else None
    mean, gaps = pd.DataFrame(), []
    if epochs:
        rows = pd.concat(epochs).groupby("epoch")
        mean = rows.mean().where(rows.count() == len(epochs)).dropna(how="all").dropna(axis=1, how="all").reset_index()
    if missing := len(chosen) - len(epochs):
        gaps.append(f"the curves are without {missing} of {counted(len(chosen), 'run')}: no readable metrics.csv")
    first = sweep.objectives[0]
    result = RunResult(
        status="finished",
        objective=Objective(name=first, value=float(means[first])),
        metrics={name: float(means[name]) for name in sweep.metrics if pd.notna(means[name])},
        seconds=None if chosen["seconds"].isna().all() else float(chosen["seconds"].mean()),
        chosen=any_run.result.chosen if any_run else {},
    )
    shared = {key: value for key, value in any_run.settings.items() if key != "seed"} if any_run else {}
    return RunFolder(sweep.path, shared, [], mean, result, ErrorAnalysis(), gaps)


def format_pairs(comparisons: dict[str, pd.DataFrame]) -> list[tuple[str, pd.DataFrame]]:
    """Paired differences as text, for the report and for the terminal: name and table."""
    return [
        (
            name,
            pd.DataFrame(
                {"metric": metric, "pairs": f"{row['pairs']:.0f}", "left out": f"{row['left_out']:.0f}"}
                | {key: _formatted(metric, row[key]) for key in ("a", "b")}
                | {"b − a": _formatted(metric, row["difference"])}
                | {"95 % interval": f"{_formatted(metric, row['low'])} to {_formatted(metric, row['high'])}"}
                for metric, row in pairs.iterrows()
            ),
        )
        for name, pairs in comparisons.items()
    ]


def _compared(runs: dict[str, RunFolder]) -> list[Table]:
    """The settings that differ, marked, and then those that are the same."""
    frame = pd.DataFrame({name: run.settings for name, run in runs.items()}, dtype=object).fillna("not set")
    differ = frame.nunique(axis=1) > 1
    common = frame[~differ & ~frame.iloc[:, :1].isin(["null", "[]"]).any(axis=1)]
    frame = pd.concat([frame[differ].rename(index="≠ {}".format), common]).reset_index(names="key")
    caption = f"{counted(differ.sum(), 'setting')} with different values, marked with ≠; {len(common)} with the same"
    return [Table(caption, frame, marked=frozenset(range(differ.sum())))] if len(frame) else []
