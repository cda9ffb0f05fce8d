"""The charts of the report, as plain dicts in Plotly's terms; colours are names such as `@1`, which the page resolves.

Whatever is text from outside goes through `label`, for Plotly reads a little HTML of its own in every text.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from backhand.config.validation import larger_is_better
from backhand.reporting.folder import Findings, Job, RunFolder, SweepFolder
from backhand.reporting.plots import MOST_SETTINGS, Scale, objective_scale, pareto_front, setting_scale, thinned_ticks
from backhand.reporting.terminal import number

MOST_POINTS = 1000  # of one line
MOST_ROWS = 100  # of the table behind a line
MOST_DOTS = 5000  # of the panels of a sweep together
SHADES = 8  # of the lines of parallel coordinates, each a colour of the page
TITLES = {
    "loss": "Loss",
    "acc": "Accuracy",
    "r2": "R², the share of the variance explained",
    "mae": "Mean absolute error",
}
SHORT_TITLES = TITLES | {"r2": "R²"}
SPLITS = {"train": "training", "val": "validation"}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "cross", "star", "triangle-down")


@dataclass(frozen=True)
class Cell:
    """A table's cell; `value` is what it is sorted by, `href` what it leads to."""

    text: str
    value: float | None = None
    href: str | None = None


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading. `marked` rows are emphasised and say so in words too."""

    caption: str
    columns: list[str]
    rows: list[list[Cell]]
    sortable: bool = False
    marked: frozenset[int] = frozenset()
    wide: bool = True
    kind: ClassVar[str] = "table"

    @cached_property
    def numeric(self) -> set[int]:
        """The columns of numbers; asked for at every cell."""
        return {
            place
            for place in range(len(self.columns))
            if any(row[place].text for row in self.rows)
            and all(row[place].value is not None for row in self.rows if row[place].text)
        }


@dataclass(frozen=True)
class Chart:
    """A chart, what is to be seen in it, and its numbers as a table."""

    title: str
    note: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    table: Table | None = None
    wide: bool = False
    height: int = 300
    square: bool = False
    min_width: int = 0  # pixels, below which the page scrolls it
    kind: ClassVar[str] = "chart"


def cell(name: str, value: float | None) -> Cell:
    """A number as its metric is written, or an empty cell."""
    if value is None or not math.isfinite(value):
        return Cell("")
    return Cell(number(name.rpartition("/")[2], value), value)


def label(text: str, letters: int = 60) -> str:
    """Text of which Plotly takes nothing for markup, cut in the middle where it is long."""
    if len(text) > letters:
        text = f"{text[: letters - letters // 3 - 1]}…{text[-(letters // 3) :]}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """A line's finite points; of many the lowest and the highest of each stretch, so that peaks stay."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(points) > MOST_POINTS:
        stretches = np.array_split(np.arange(len(points)), MOST_POINTS // 2)
        values = np.array([b for _, b in points])
        kept = {int(s[0] + place) for s in stretches for place in (values[s].argmin(), values[s].argmax())}
        points = [points[place] for place in sorted(kept | {0, len(points) - 1})]
    return [a for a, _ in points], [b for _, b in points]


def epochs_of(run: RunFolder) -> list[float]:
    """The epochs as they are counted for people, from 1."""
    count = len(next(iter(run.epochs.values()), []))
    return [value + 1 for value in run.epochs.get("epoch", range(count))]


def by_epoch(
    run: RunFolder, columns: Mapping[str, str], title: str, note: str = "", log: bool = False, **axis: Any
) -> Chart | None:
    """Columns of metrics.csv against the epoch; None where none of them is there.

    Args:
        run: whose.
        columns: each with its name in the legend.
        title: of the chart.
        note: what is to be seen.
        log: a logarithmic axis, for what is positive; the rest is left out.
        axis: of Plotly's vertical axis.
    """
    lines = [(name, run.epochs[column]) for column, name in columns.items() if column in run.epochs]
    if log:
        lines = [(name, [value if value > 0 else math.nan for value in values]) for name, values in lines]
    lines = [(name, values) for name, values in lines if not all(map(math.isnan, values))]
    if not lines:
        return None
    x = epochs_of(run)
    names = list(columns.values())  # a line looks the same where another is missing
    data = [_line(x, values, name, names.index(name)) for name, values in lines]
    if len(x) > MOST_POINTS:
        note += f" Of {len(x):,} epochs the chart shows the lowest and the highest value of each stretch."
    rows = _evenly(range(len(x)), MOST_ROWS)
    metric = next(iter(columns)).rpartition("/")[2]
    caption = title if len(rows) == len(x) else f"{title}: {len(rows)} of {len(x):,} epochs"
    finite = [value for _, values in lines for value in values if math.isfinite(value)]
    if log and max(finite) > 100 * min(finite):
        axis["dtick"] = 1  # whole powers of ten only
    table = Table(
        caption,
        ["epoch", *(name for name, _ in lines)],
        [[cell("epoch", x[row]), *(cell(metric, values[row]) for _, values in lines)] for row in rows],
    )
    return Chart(title, note.strip(), data, _axes("epoch", log=log, **axis), table)


def curves(run: RunFolder) -> list[Chart]:
    """Loss, accuracy, R², … by epoch: training against validation."""
    charts = []
    for metric, title in TITLES.items():
        columns = {f"{split}/{metric}": name for split, name in SPLITS.items()}
        values = [value for column in columns for value in run.epochs.get(column, []) if math.isfinite(value)]
        log = metric in ("loss", "mae") and bool(values) and min(values) > 0 and max(values) > 50 * min(values)
        axis = {"tickformat": ".0%"} if metric == "acc" else {}
        charts.append(by_epoch(run, columns, title, "Logarithmic axis." if log else "", log, **axis))
    return [chart for chart in charts if chart is not None]


def diagnostics(run: RunFolder) -> list[Chart]:
    """What went through the network: δ, gradients, dead units, the learning rate, the audit."""
    found = [
        by_epoch(
            run,
            _named(run, "delta/"),
            "δ by layer",
            "Root mean square, logarithmic: where the lines part, δ vanishes or explodes on its way back.",
            log=True,
        ),
        by_epoch(run, _named(run, "grad/"), "Gradient norms", "Of each parameter, logarithmic.", log=True),
        by_epoch(
            run,
            _named(run, "units/"),
            "Units that have stopped learning",
            "Share of a layer's units that are dead (0 for every sample) or saturated.",
            range=[-0.03, 1.03],
            tickformat=".0%",
        ),
        by_epoch(run, {"lr": "learning rate"}, "Learning rate", rangemode="tozero"),
        _audit(run),
    ]
    return [chart for chart in found if chart is not None]


def overlaid(runs: Mapping[str, RunFolder]) -> list[Chart]:
    """Each metric's curves of several runs, a chart a split."""
    charts = []
    for metric, title in SHORT_TITLES.items():
        for split in ("val", "train"):
            column = f"{split}/{metric}"
            lines = {name: run for name, run in runs.items() if column in run.epochs}
            if not lines:
                continue
            data = [
                _line(epochs_of(run), run.epochs[column], name, list(runs).index(name)) for name, run in lines.items()
            ]
            rows = [
                [
                    Cell(name),
                    *(cell(metric, function(found)) for function in (min, max)),
                    cell(metric, found[-1]),
                    cell("", len(found)),
                ]
                for name, run in lines.items()
                if (found := [value for value in run.epochs[column] if math.isfinite(value)])
            ]
            heading = f"{title}, {SPLITS[split]}"
            values = [value for trace in data for value in trace["y"]]
            log = metric in ("loss", "mae") and min(values) > 0 and max(values) > 50 * min(values)
            charts.append(
                Chart(
                    heading,
                    "Logarithmic axis." if log else "",
                    data,
                    _axes("epoch", log=log, **({"tickformat": ".0%"} if metric == "acc" else {})),
                    Table(heading, ["run", "lowest", "highest", "last", "epochs"], rows),
                )
            )
    return charts


def confusion(findings: Findings) -> Chart | None:
    """How often each true class was taken for each class on the test split."""
    counts, names = findings.confusion, findings.classes
    if not counts:
        return None
    total, right = sum(map(sum, counts)), sum(row[place] for place, row in enumerate(counts))
    few = len(names) <= 25
    places = list(range(len(names)))
    ticks = {"tickvals": places, "ticktext": [label(name, 16) for name in names], "showgrid": False, "zeroline": False}
    # Without its diagonal's weight a mistake in a hundred would look like none.
    shades = [[math.sqrt(count / max(sum(row), 1)) for count in row] for row in counts]
    data = {
        "type": "heatmap",
        "z": shades,
        "zmin": 0,
        "zmax": 1,
        "x": places,
        "y": places,
        "colorscale": [[0, "@surface"], [1, "@heat"]],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hoverinfo": "text",
        "hovertext": [
            [f"true {label(name)}, predicted {label(other)}: {count}" for other, count in zip(names, row, strict=True)]
            for name, row in zip(names, counts, strict=True)
        ],
        **({"text": [[str(count or "") for count in row] for row in counts], "texttemplate": "%{text}"} if few else {}),
    }
    layout = {
        "xaxis": {"title": {"text": "predicted"}, "constrain": "domain", **ticks},
        "yaxis": {
            "title": {"text": "true"},
            "autorange": "reversed",
            "scaleanchor": "x",
            "constrain": "domain",
            **ticks,
        },
    }
    table = Table(
        "Counts: rows are true classes, columns predicted ones",
        ["true", *names],
        [[Cell(name), *(Cell(str(count), count) for count in row)] for name, row in zip(names, counts, strict=True)],
    )
    note = (
        f"Test split: {right:,} of {total:,} right ({right / max(total, 1):.2%}). Rows are true classes, columns "
        "predicted ones; the shade is the square root of the share of a row."
    )
    return Chart("Confusion matrix", note, [data], layout, table, square=True)


def by_class(findings: Findings) -> Table | None:
    """Each class's recall and precision, the least recalled first."""
    counts, names = findings.confusion, findings.classes
    if not counts:
        return None
    columns = [sum(row[place] for row in counts) for place in range(len(names))]
    found = []
    for place, (name, row) in enumerate(zip(names, counts, strict=True)):
        right, total = row[place], sum(row)
        recall = right / total if total else None
        precision = right / columns[place] if columns[place] else None
        taken = max(
            (other for other in range(len(names)) if other != place), key=lambda other: row[other], default=place
        )
        often = f"{names[taken]} ({row[taken]})" if taken != place and row[taken] else ""
        found.append([Cell(name), cell("", total), cell("acc", recall), cell("acc", precision), Cell(often)])
    found.sort(key=lambda cells: math.inf if cells[2].value is None else cells[2].value)
    heads = ["class", "samples", "recall", "precision", "most often taken for"]
    return Table("Of each class, the least recalled first", heads, found, wide=False)


def scatter(findings: Findings) -> Chart | None:
    """Predicted against true value."""
    if findings.scatter is None:
        return None
    target, prediction = findings.scatter
    low, high = min(*target, *prediction), max(*target, *prediction)
    data: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "lines", "x": [low, high], "y": [low, high], "name": "prediction = truth"}
        | {"line": {"color": "@muted", "dash": "dash", "width": 1.5}, "hoverinfo": "skip"},
        {"type": "scatter", "mode": "markers", "x": target, "y": prediction, "name": "sample"}
        | {"marker": {"color": "@1", "size": 6, "opacity": 0.7}},
    ]
    rows = [[cell("", target[row]), cell("", prediction[row])] for row in _evenly(range(len(target)), MOST_ROWS)]
    caption = f"{len(rows)} of {len(target):,} samples" if len(rows) < len(target) else "True and predicted values"
    return Chart(
        "Predicted against true value",
        f"Test split: {len(target):,} samples; on the dashed line prediction and truth are the same.",
        data,
        _axes("true value") | {"yaxis": {"title": {"text": "predicted value"}}},
        Table(caption, ["true value", "predicted value"], rows),
        square=True,
    )


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only.

    Attributes:
        settings: what they have in common, of the swept settings.
        runs: how many have a value; what failed is in a table of its own.
        mean: of their first objective.
        half_width: half of the mean's 95 % t-interval; NaN for a single run.
    """

    settings: dict[str, str]
    runs: int
    mean: float
    half_width: float


def groups(sweep: SweepFolder) -> list[Group]:
    """The runs of a sweep with a value, those together that differ in their seed only; the best mean first."""
    import pandas as pd  # a second that a single run's report does without

    from backhand.reporting.comparison import over_seeds

    ended = [job for job in sweep.jobs if job.values]
    if not ended:
        return []
    seed = next((key for key in sweep.swept if _bare(key) == "seed"), "seed")
    keys, name = [key for key in sweep.swept if _bare(key) != "seed"], sweep.objectives[0]
    runs = pd.DataFrame([_common(sweep, job) for job in ended])  # a column a key, by its place: keys may be anybody's
    runs["seed"] = [job.settings.get(seed, "") for job in ended]
    runs[name] = [job.values[0] for job in ended]
    return [
        Group(
            settings={key: row[place] for place, key in enumerate(keys)},
            runs=row["runs"],
            mean=row[name],
            half_width=row[f"{name} high"] - row[name],
        )
        for row in over_seeds(runs, range(len(keys)), [name]).to_dict("records")
    ]


def group_table(sweep: SweepFolder) -> Table | None:
    """Each setting's mean over its seeds with its interval; None where no two runs differ in their seed only."""
    every = groups(sweep)
    if not any(group.runs > 1 for group in every):
        return None
    keys, name = list(every[0].settings), sweep.objectives[0]
    rows = [
        [
            *(setting_cell(group.settings[key]) for key in keys),
            cell(name, group.mean),
            Cell(f"± {cell(name, group.half_width).text}", group.half_width) if group.runs > 1 else Cell("one run"),
            cell("", group.runs),
        ]
        for group in every
    ]
    return Table(
        "Each setting's mean over its seeds", [*keys, f"mean {name}", "95 % interval", "runs"], rows, sortable=True
    )


def setting_cell(text: str) -> Cell:
    """A setting's value, sorted by its number where it is one."""
    try:
        value: float | None = float(text)
    except ValueError:
        value = None
    return Cell(text, value if value is not None and math.isfinite(value) else None)


def sweep_charts(sweep: SweepFolder) -> list[Chart]:
    """Parallel coordinates, and the objective against each setting; none where there is nothing to compare."""
    jobs = sweep.ranked
    if len(jobs) < 2 or not sweep.swept:
        return []
    scales = {key: setting_scale([job.settings.get(key, "") for job in jobs]) for key in sweep.swept[:MOST_SETTINGS]}
    found = {
        name: objective_scale(np.array([job.values[place] for job in jobs]), larger_is_better(name))
        for place, name in enumerate(sweep.objectives)
    }
    return [
        _parallel(sweep, jobs, scales, found),
        *(_against(sweep, jobs, key, scale, found[sweep.objectives[0]]) for key, scale in scales.items()),
        *([_front(sweep, jobs)] if len(found) > 1 else []),
    ]


def _parallel(
    sweep: SweepFolder, jobs: Sequence[Job], scales: Mapping[str, Scale], found: Mapping[str, Scale]
) -> Chart:
    """Lines of an ordinary chart: Plotly's own parallel coordinates need WebGL and a script that writes scripts."""
    every = {**scales, **found}
    places = np.stack([scale.places for scale in every.values()], 1)
    first = found[sweep.objectives[0]]
    worth = _worth(first, sweep.objectives[0])
    stripes = np.minimum((worth * SHADES).astype(int), SHADES - 1)
    data: list[dict[str, Any]] = []
    for stripe in range(SHADES):
        chosen = [place for place in range(1, len(jobs)) if stripes[place] == stripe]
        if not chosen:
            continue
        x: list[int | None] = []
        y: list[float | None] = []
        told: list[str] = []
        for place in reversed(chosen):
            x += [*range(len(every)), None]
            y += [*(round(float(value), 4) for value in places[place]), None]
            told += [_told(sweep, jobs[place])] * len(every) + [""]
        line = {"color": f"@shade-{stripe}", "width": 1.2}
        data.append(_hovered("lines", x, y, told) | {"line": line, "opacity": 0.45 + 0.05 * stripe})
    best = _hovered("lines+markers", list(range(len(every))), places[0].tolist(), [_told(sweep, jobs[0])] * len(every))
    line = {"color": "@2", "width": 3.5}
    data.append(best | {"line": line, "marker": {"symbol": "star", "size": 11, "color": "@2"}, "name": "the best run"})
    notes, shapes = [], []
    for axis, scale in enumerate(every.values()):
        shapes.append(
            {"type": "line", "x0": axis, "x1": axis, "y0": 0, "y1": 1, "line": {"color": "@muted", "width": 1}}
        )
        for at, text in thinned_ticks(scale.ticks, 0.06):
            notes.append(
                {"x": axis, "y": at, "text": label(text, 14), "showarrow": False, "xanchor": "left", "xshift": 4}
                | {"font": {"size": 11}, "bgcolor": "@surface", "borderpad": 1}
            )
    layout = {
        "xaxis": {
            "tickvals": list(range(len(every))),
            "ticktext": [_wrapped(key) for key in every],
            "side": "top",
            "showgrid": False,
            "zeroline": False,
            "range": [-0.1, len(every) - 0.55],
            "ticks": "",
        },
        "yaxis": {"visible": False, "range": [min(places.min(), 0) - 0.06, max(places.max(), 1) + 0.06]},
        "annotations": notes,
        "margin": {"b": 8, "t": 44},
        "shapes": shapes,
        "hovermode": "closest",
        "showlegend": False,
    }
    direction = "highest" if larger_is_better(sweep.objectives[0]) else "lowest"
    note = (
        f"A line a run ({len(jobs):,}), the stronger the better; the best one, with the {direction} "
        f"{sweep.objectives[0]}, is thick and has stars."
    )
    if len(sweep.swept) > len(scales):
        note += f" The first {len(scales)} of {len(sweep.swept)} settings."
    if far := int(first.beyond.sum()):
        note += f" {far} {'run lies' if far == 1 else 'runs lie'} beyond the axis of {sweep.objectives[0]}."
    return Chart("Settings and objective", note, data, layout, wide=True, height=400, min_width=110 * len(every))


def _against(sweep: SweepFolder, jobs: Sequence[Job], key: str, scale: Scale, objective: Scale) -> Chart:
    """The objective against a setting: a dot a run, a bar the interval of those that differ in their seed only."""
    name = sweep.objectives[0]
    dots = _evenly(range(len(jobs)), max(MOST_DOTS // len(sweep.swept), 200))
    every = [] if _bare(key) == "seed" else [group for group in groups(sweep) if group.runs > 1]
    aside = _aside(every, key, scale)
    # What has no group of its own is spread by a little, or the runs of one value would hide each other.
    spread = np.random.default_rng(0).uniform(-0.012, 0.012, len(jobs))
    places = scale.places + [aside.get(_common(sweep, job), float(by)) for job, by in zip(jobs, spread, strict=True)]
    data = [
        _hovered(
            "markers",
            [round(float(places[dot]), 4) for dot in dots],
            [round(float(objective.places[dot]), 4) for dot in dots],
            [_told(sweep, jobs[dot]) for dot in dots],
        )
        | {
            "name": "a run",
            "marker": {
                "color": "@1",
                "size": 6,
                "opacity": 0.55,
                "symbol": ["x" if objective.beyond[dot] else "circle" for dot in dots],
            },
        }
    ]
    if every:
        data.insert(0, _means(sweep, jobs, key, scale, objective, every, aside))
    data.append(
        _hovered("markers", [float(places[0])], [float(objective.places[0])], [_told(sweep, jobs[0])])
        | {"name": "the best run", "marker": {"symbol": "star", "size": 13, "color": "@2"}}
    )
    values: dict[str, list[float]] = {}
    for job in jobs:
        values.setdefault(job.settings.get(key, ""), []).append(job.values[0])
    order = sorted(values, key=lambda text: (setting_cell(text).value is None, setting_cell(text).value or 0.0, text))
    rows = [
        [
            Cell(text or "not set"),
            *(cell(name, value) for value in (float(np.mean(values[text])), min(values[text]), max(values[text]))),
            cell("", len(values[text])),
        ]
        for text in order[:MOST_ROWS]
    ]
    note = f"{len(dots):,} of {len(jobs):,} runs. " if len(dots) < len(jobs) else ""
    if len(data) > 2:
        note += "Bars: mean and 95 % t-interval of the runs that differ in their seed only."
    return Chart(
        f"{name} against {key}",
        note,
        data,
        {
            "xaxis": {"title": {"text": label(key)}, **_placed(scale, max([0.06, *aside.values()]) + 0.04)},
            "yaxis": {"title": {"text": label(name, 30)}, **_placed(objective, 0.07)},
            "hovermode": "closest",
        },
        Table(f"{name} by {key}", [key, "mean", "lowest", "highest", "runs"], rows),
        height=320,
    )


def _means(
    sweep: SweepFolder,
    jobs: Sequence[Job],
    key: str,
    scale: Scale,
    objective: Scale,
    every: Sequence[Group],
    aside: Mapping[tuple[str, ...], float],
) -> dict[str, Any]:
    """Means and intervals, on the objective's axis."""
    at = {job.settings.get(key, ""): float(place) for job, place in zip(jobs, scale.places, strict=True)}
    values = np.array([job.values[0] for job in jobs])
    kept = values[~objective.beyond]
    low, high = float(kept.min()), float(kept.max())

    def placed(value: float) -> float:
        """As `objective_scale` places it, held a little outside of its axis."""
        if low == high:
            return 0.5
        if objective.kind == "log":
            where = (math.log(max(value, low / 2)) - math.log(low)) / (math.log(high) - math.log(low))
        else:
            where = (value - low) / (high - low)
        return min(max(where, -0.06), 1.06)

    inside = [group for group in every if low <= group.mean <= high]
    x, y, up, down, text = [], [], [], [], []
    for group in inside:
        x.append(round(at[group.settings[key]] + aside[tuple(group.settings.values())], 4))
        y.append(placed(group.mean))
        up.append(placed(group.mean + group.half_width) - y[-1])
        down.append(y[-1] - placed(group.mean - group.half_width))
        name = sweep.objectives[0]
        mean, half = cell(name, group.mean).text, cell(name, group.half_width).text
        settings = ", ".join(f"{each}={value}" for each, value in group.settings.items())
        text.append(f"{label(settings, 120)}: {label(name)} {mean} ± {half}, {group.runs} runs")
    return _hovered("markers", x, y, text) | {
        "name": "mean over seeds",
        "marker": {"symbol": "line-ew-open", "size": 9, "color": "@ink", "line": {"width": 2, "color": "@ink"}},
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": up,
            "arrayminus": down,
            "color": "@ink",
            "thickness": 1.5,
        },
    }


def _aside(every: Sequence[Group], key: str, scale: Scale) -> dict[tuple[str, ...], float]:
    """How far beside its setting's place each group stands, so that neither groups nor settings run into each other."""
    distinct = np.unique(scale.places)
    room = 0.35 * min(float(np.diff(distinct).min()), 0.3) if len(distinct) > 1 else 0.2
    sharing: dict[str, list[Group]] = {}
    for group in every:
        sharing.setdefault(group.settings[key], []).append(group)
    return {
        tuple(group.settings.values()): float(by)
        for those in sharing.values()
        for group, by in zip(those, np.linspace(-room, room, len(those)) if len(those) > 1 else [0.0], strict=True)
    }


def _common(sweep: SweepFolder, job: Job) -> tuple[str, ...]:
    """What a run has in common with those that differ in their seed only."""
    return tuple(job.settings.get(key, "") for key in sweep.swept if _bare(key) != "seed")


def _front(sweep: SweepFolder, jobs: Sequence[Job]) -> Chart:
    """The first two objectives against each other, and the runs that no other beats in both."""
    names = sweep.objectives[:2]
    first, second = (np.array([job.values[place] for job in jobs]) for place in (0, 1))
    front = np.flatnonzero(pareto_front(first, second, (larger_is_better(names[0]), larger_is_better(names[1]))))
    front = front[np.argsort(second[front])]
    told = [_told(sweep, job) for job in jobs]
    data = [
        _hovered("markers", second.tolist(), first.tolist(), told)
        | {"name": "a run", "marker": {"color": "@1", "size": 6}},
        _hovered("lines+markers", second[front].tolist(), first[front].tolist(), [told[place] for place in front])
        | {
            "name": "Pareto front",
            "line": {"color": "@2", "dash": "dash"},
            "marker": {"symbol": "diamond", "size": 10},
        },
    ]
    rows = [
        [Cell(str(jobs[place].number)), cell(names[0], first[place]), cell(names[1], second[place])]
        for place in front[:MOST_ROWS]
    ]
    return Chart(
        "Pareto front",
        f"{len(front)} of {len(jobs)} runs that no other one beats in both objectives.",
        data,
        _axes(label(names[1])) | {"yaxis": {"title": {"text": label(names[0])}}, "hovermode": "closest"},
        Table("The runs on the front", ["job", *names], rows),
        height=320,
    )


def _audit(run: RunFolder) -> Chart | None:
    columns = _named(run, "audit/")
    note = "Relative error of the hand-derived gradients against autograd in float64; exact ones (0) have no logarithm."
    chart = by_epoch(run, columns, "Gradient audits", note, log=True)
    if chart is None:
        return None
    for trace in chart.data:
        trace["mode"] = "markers"
    limits = [("warning", "callbacks.audit.warn", "dot"), ("stop", "callbacks.audit.stop", "dash")]
    found = [
        (name, value, dash)
        for name, key, dash in limits
        if (value := setting_cell(run.settings.get(key, "")).value) is not None and value > 0
    ]
    x = epochs_of(run)
    chart.data.extend(
        {"type": "scatter", "mode": "lines", "x": [x[0], x[-1]], "y": [value, value], "name": f"{name} at {value:g}"}
        | {"line": {"color": "@muted", "dash": dash, "width": 1.5}, "hoverinfo": "name"}
        for name, value, dash in found
    )
    return chart


def _named(run: RunFolder, prefix: str) -> dict[str, str]:
    """The columns with a prefix, each with the rest of its name."""
    return {column: column.removeprefix(prefix) for column in run.epochs if column.startswith(prefix)}


def _line(x: Sequence[float], y: Sequence[float], name: str, place: int) -> dict[str, Any]:
    """A line of which neither dash nor marker nor colour is another's, as far as they reach."""
    x, y = thinned(x, y)
    colour = f"@{place % 8 + 1}"
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": x,
        "y": y,
        "name": label(name, 40),
        "line": {"color": colour, "dash": DASHES[place % len(DASHES)], "width": 2},
        "marker": {"symbol": SYMBOLS[place % len(SYMBOLS)], "size": 6, "maxdisplayed": 12, "color": colour},
    }


def _hovered(mode: str, x: Sequence[Any], y: Sequence[Any], text: Sequence[str]) -> dict[str, Any]:
    return {"type": "scatter", "mode": mode, "x": x, "y": y, "text": text, "hoverinfo": "text"}


def _axes(x: str, log: bool = False, **y: Any) -> dict[str, Any]:
    if log:
        y |= {"type": "log", "exponentformat": "power"}
    return {"xaxis": {"title": {"text": x}}, "yaxis": y}


def _placed(scale: Scale, pad: float) -> dict[str, Any]:
    """An axis of [0, 1] with a scale's own ticks; slanted, and in the end not every one, where they would touch."""
    low, high = min(float(scale.places.min()), 0), max(float(scale.places.max()), 1)
    ticks = thinned_ticks(scale.ticks, 0.06)
    return {
        "tickvals": [place for place, _ in ticks],
        "ticktext": [label(text, 16) for _, text in ticks],
        "range": [low - pad, high + pad],
        "zeroline": False,
    }


def _worth(scale: Scale, name: str) -> np.ndarray:
    """How good, from 0 to 1."""
    places = np.clip(scale.places, 0, 1)
    return places if larger_is_better(name) else 1 - places


def _told(sweep: SweepFolder, job: Job) -> str:
    """A run in a few words, for the pointer that rests on it."""
    settings = ", ".join(f"{_bare(key).rpartition('.')[2]}={job.settings.get(key, '')}" for key in sweep.swept[:6])
    found = ", ".join(
        f"{label(name)} {cell(name, value).text}" for name, value in zip(sweep.objectives, job.values, strict=True)
    )
    return f"job {job.number}: {found}<br>{label(settings, 120)}"


def _bare(key: str) -> str:
    """A key without Hydra's signs for adding it."""
    return key.lstrip("+")


def _wrapped(key: str) -> str:
    """A key over two lines, broken at its last dot."""
    head, dot, tail = label(key, 30).rpartition(".")
    return f"{head}{dot}<br>{tail}" if dot else f"<br>{tail}"


def _evenly(items: Sequence[int], most: int) -> list[int]:
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]
