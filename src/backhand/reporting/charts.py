"""The figures and tables of the report; figures are drawn with Plotly Express."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import plotly.express as px
from plotly.graph_objects import Figure as PlotlyFigure

from backhand.reporting.axes import FEW, MOST_TICKS, NOT_SET, axis, natural, parallel_axes
from backhand.reporting.error_analysis import ErrorAnalysis
from backhand.reporting.folder import RunFolder, SweepFolder, text
from backhand.reporting.terminal import counted, format_metric, short

MOST_EPOCHS = 1000  # points of a line
MOST_ROWS = 100  # rows of a figure's data table
SHADES = 8  # opacities of the lines on parallel axes
LOG_LOSS = 50  # a loss that falls by a larger factor gets a logarithmic axis
ANGLES = "alignment/hidden_"  # angles of the hidden layers' δ to backpropagation's
# Each is visible on white and on black.
COLOURS = ["#3b82c4", "#d1600f", "#2f9160", "#a05fd0", "#d64577", "#7b8694"]
BLUE, ORANGE, *_, GREY = COLOURS
TITLES = {"loss": "Loss", "acc": "Accuracy", "r2": "R² (share of the variance explained)", "mae": "Mean absolute error"}


@dataclass(frozen=True)
class Table:
    """A table whose first column contains the row headings.

    Attributes:
        metric: decides how numbers are formatted; by default the metric that the column is named after.
        sortable: whether the reader can sort and filter the rows.
        marked: the rows that are highlighted; their text says why.
        links: the link of a row's first field, by row number.
    """

    caption: str
    frame: pd.DataFrame
    metric: str = ""
    sortable: bool = False
    marked: frozenset[int] = frozenset()
    links: dict[int, str] | None = None
    kind: ClassVar[str] = "table"

    @property
    def numeric(self) -> list[bool]:
        """Whether each column is numeric."""
        return [dtype.kind in "iuf" for dtype in self.frame.dtypes]

    def rows(self) -> list[list[tuple[str, float | None]]]:
        """The fields of each row: text, and the number to sort by, if any."""
        metrics = [self.metric or str(column).rpartition("/")[2] for column in self.frame]
        rows = self.frame.itertuples(index=False, name=None)
        return [[_field(*each) for each in zip(metrics, row, strict=True)] for row in rows]


@dataclass(frozen=True)
class Figure:
    """A figure with a note and a data table; a `wide` one takes the full width of the report."""

    title: str
    note: str
    figure: PlotlyFigure
    table: Table | None = None
    wide: bool = False
    height: int = 300
    kind: ClassVar[str] = "figure"


def _field(metric: str, value: Any) -> tuple[str, float | None]:
    if isinstance(value, str):
        return value, None
    if pd.isna(value):
        return "", None
    return f"{value}" if isinstance(value, int) else format_metric(metric, value), float(value)


def rounded(frame: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """The table with sampled numbers among the settings shown with 4 significant digits."""
    return frame.assign(**{key: frame[key].map(short) for key in settings})


def templates() -> dict[str, Any]:
    """Plotly's templates for light and dark colour schemes, with the colours of report.css."""
    templates = {}
    for scheme, ink, grid, surface in (
        ("light", "#1b1f24", "#d9dde3", "#ffffff"),
        ("dark", "#e7eaee", "#353c46", "#191d23"),
    ):
        axis = {"gridcolor": grid, "linecolor": grid, "zeroline": False, "automargin": True, "title": {"standoff": 8}}
        templates[scheme] = {
            "font": {"color": ink, "size": 13, "family": "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"},
            **{"paper_bgcolor": surface, "plot_bgcolor": surface, "colorway": COLOURS, "xaxis": axis, "yaxis": axis},
            "coloraxis": {"colorscale": [[0, surface], [1, BLUE]], "showscale": False},
            "hoverlabel": {"bgcolor": surface, "font": {"color": ink}, "align": "left"},
            "annotationdefaults": {"bgcolor": surface},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        }
    return {scheme: {"layout": layout} for scheme, layout in templates.items()}


def label(text: str, letters: int = 40) -> str:
    """Escape text for Plotly, which reads some HTML tags, and shorten long text in the middle."""
    if len(text) > letters:
        text = f"{text[: letters // 2]}…{text[-(letters // 2) + 1 :]}"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _styled(figure: PlotlyFigure, **layout: Any) -> PlotlyFigure:
    """Remove the colours of Plotly Express; the report's template sets them when it is opened."""
    for trace in figure.select_traces({"type": "scatter"}):
        trace.update(line_color=None, marker_color=None)
    return figure.update_layout(template=None, margin={"l": 50, "r": 14, "t": 10, "b": 40}, legend_title=None, **layout)


def thinned(epochs: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """At most about `MOST_EPOCHS` rows: those with the minimum and the maximum of each interval, which keeps peaks."""
    if len(epochs) <= MOST_EPOCHS:
        return epochs
    interval = np.arange(len(epochs)) * (MOST_EPOCHS // 2) // len(epochs)
    rows = {0, len(epochs) - 1}
    for column in columns:
        values = epochs[column].reset_index(drop=True).dropna()
        groups = values.groupby(interval[values.index])
        rows |= {*groups.idxmin(), *groups.idxmax()}
    return epochs.iloc[sorted(rows)]


def lines(
    epochs: pd.DataFrame, columns: dict[str, str], title: str, note: str = "", metric: str = "", log: bool = False
) -> list[Figure]:
    """A line chart of metrics by epoch; empty if no epoch has them.

    Args:
        epochs: one row per epoch.
        columns: the legend's name of each metric.
        title: of the chart.
        note: a sentence under the title.
        metric: decides how numbers are formatted.
        log: whether the vertical axis is logarithmic; a loss that falls by more than `LOG_LOSS` has one by default.
    """
    columns = {column: name for column, name in columns.items() if column in epochs}
    if not columns:
        return []
    frame = epochs[["epoch", *columns]].assign(epoch=epochs["epoch"].astype(int) + 1)
    low, high = frame[list(columns)].min().min(), frame[list(columns)].max().max()
    log |= metric in ("loss", "mae") and 0 < LOG_LOSS * low < high
    shown = thinned(frame, list(columns))
    if len(shown) < len(frame):
        note += f" Of {len(frame):,} epochs the chart shows the lowest and the highest value of each interval."
    # Lines are numbered because shortened names may be equal.
    shown = shown.set_axis(["epoch", *range(len(columns))], axis=1).melt("epoch", var_name="line")
    if log:
        shown = shown.assign(value=shown["value"].where(shown["value"] > 0))
    style = {"color": "line", "line_dash": "line", "symbol": "line", "markers": True, "render_mode": "svg"}
    figure = px.line(shown, x="epoch", y="value", log_y=log, **style)
    for trace, (column, name) in zip(figure.data, columns.items(), strict=True):
        trace.update(name=label(name), showlegend=bool(frame[column].notna().any()))
    figure.update_traces(connectgaps=True, marker={"size": 6, "maxdisplayed": 12}, hovertemplate="%{y:.4g}")
    # A label at each power of ten: with fewer powers Plotly labels values between them, with more the labels overlap.
    powers = log and 100 < high / shown["value"].min() < 1e6
    figure.update_yaxes(title_text="", exponentformat="power", dtick=1 if powers else None)
    if low == high and not log:
        figure.update_yaxes(range=_padded(low, high))
    figure.update_yaxes(tickformat=".0%" if metric == "acc" else None)
    rows = np.linspace(0, len(frame) - 1, min(len(frame), MOST_ROWS)).astype(int)
    table = Table(
        f"{title}: {len(rows):,} of {counted(len(frame), 'epoch')}", frame.iloc[rows].rename(columns=columns), metric
    )
    height = _height(300, [trace.name for trace in figure.data])
    return [Figure(title, note.strip(), _styled(figure, hovermode="x unified"), table, height=height)]


def _height(plot: int, names: Sequence[str]) -> int:
    """The height in pixels of a plot and its legend, whose names take 7 px per letter in a width of 440 px."""
    per_row = max(1, 440 // (45 + 7 * max(map(len, names))))
    return plot + 19 * ((len(names) - 1) // per_row)


def _padded(low: float, high: float) -> list[float]:
    """The range of an axis with a margin; Plotly's own starts at 0 in grouped charts."""
    margin = 0.08 * (high - low) or abs(low) / 10 or 1.0
    return [low - margin, high + margin]


def curves(run: RunFolder) -> list[Figure]:
    """Training and validation loss, accuracy, R², … by epoch."""
    figures = []
    for metric, title in TITLES.items():
        columns = {f"train/{metric}": "training", f"val/{metric}": "validation"}
        figures += lines(run.epochs, columns, title, metric=metric)
    return figures


def overlaid(runs: dict[str, pd.DataFrame]) -> list[Figure]:
    """The curves of several runs: one figure for each metric and split, and for each hidden layer's angle."""
    splits = {"val": "validation", "train": "training"}
    titles = {f"{split}/{metric}": f"{title}, {of}" for metric, title in TITLES.items() for split, of in splits.items()}
    angles = dict.fromkeys(column for epochs in runs.values() for column in epochs if column.startswith(ANGLES))
    titles |= {column: f"Angle of δ to backpropagation's, {column.removeprefix('alignment/')}" for column in angles}
    figures = []
    for column, title in titles.items():
        values = {name: epochs.set_index("epoch")[column] for name, epochs in runs.items() if column in epochs}
        if values:
            # A run without this metric gets an empty line, so that each run has one colour in all figures.
            frame = pd.concat(values, axis=1).reindex(columns=list(runs)).sort_index().reset_index()
            metric = column.partition("/")[2]
            figures += lines(frame, {name: name for name in runs}, title, metric=metric if metric in TITLES else "")
    return figures


def diagnostics(run: RunFolder) -> list[Figure]:
    """Angles, δ, gradient norms, dead and saturated units, the learning rate, and the audits with their limits."""

    def named(prefix: str) -> dict[str, str]:
        return {column: column.removeprefix(prefix) for column in run.epochs if column.startswith(prefix)}

    vanishing = "Root mean square. Where the lines diverge, δ vanishes or explodes from layer to layer."
    units = "Share of a layer's units that are dead (0 for every sample) or saturated."
    relative = "Relative error of the hand-derived gradients against autograd in float64; exact ones (0) are not shown."
    audits = lines(run.epochs, named("audit/"), "Gradient audits", relative, log=True)
    for audit in audits:
        audit.figure.update_traces(mode="markers")
        for name, dash in (("warn", "dot"), ("stop", "dash")):
            limit = pd.to_numeric(run.settings.get(f"callbacks.audit.{name}", ""), errors="coerce")
            if limit > 0:
                ends = run.epochs["epoch"].iloc[[0, -1]] + 1
                line = {"dash": dash, "color": GREY}
                audit.figure.add_scatter(x=ends, y=[limit, limit], mode="lines", line=line, name=f"{name} at {limit:g}")
    angles = "In degrees, the mean over the epoch's audits: 0° is the same direction, 90° is orthogonal."
    return [
        *lines(run.epochs, named("alignment/"), "Angles to backpropagation", angles),
        *lines(run.epochs, named("norm_ratio/"), "Ratio of the feedback's norm to the weight's"),
        *lines(run.epochs, named("delta/"), "δ by layer", vanishing, log=True),
        *lines(run.epochs, named("grad/"), "Gradient norms", "Of each parameter.", log=True),
        *lines(run.epochs, named("units/"), "Dead and saturated units", units, "acc"),
        *lines(run.epochs, {"lr": "learning rate"}, "Learning rate"),
        *audits,
    ]


def on_test_split(analysis: ErrorAnalysis) -> list[Figure | Table]:
    """The confusion matrix with recall and precision of each class; or predicted against true values."""
    if analysis.scatter is not None:
        return [_scatter(pd.DataFrame(analysis.scatter, dtype=float).dropna())]
    if not analysis.confusion:
        return []
    counts, names = np.array(analysis.confusion), list(map(text, analysis.classes or []))
    matrix = [_matrix(counts, names)] if len(names) <= MOST_ROWS else []
    caption = "Recall and precision of each class, the lowest recall first"
    if not matrix:
        caption += f"; the confusion matrix of {len(names):,} classes is too large to show, it is in findings.json"
    mistakes = counts - np.diag(counts.diagonal())
    confused_with = [
        f"{names[most]} ({row[most]})" if row.any() else ""
        for row, most in zip(mistakes, mistakes.argmax(1), strict=True)
    ]
    with np.errstate(invalid="ignore"):
        recall, precision = counts.diagonal() / counts.sum(1), counts.diagonal() / counts.sum(0)
    frame = pd.DataFrame({"class": names, "samples": counts.sum(1), "recall": recall, "precision": precision})
    frame = frame.assign(**{"most often taken for": confused_with}).sort_values("recall", kind="stable")
    return [*matrix, Table(caption, frame, "acc")]


def _matrix(counts: np.ndarray, names: list[str]) -> Figure:
    # The square root makes a share of 1 % visible.
    figure = px.imshow(np.sqrt(counts / counts.sum(1, keepdims=True).clip(1)), labels={"x": "predicted", "y": "true"})
    shown = {
        "text": np.where(counts > 0, counts.astype(str), ""),
        "texttemplate": "%{text}" if len(names) <= 25 else None,
    }
    hover = "true %{y}, predicted %{x}: %{customdata}<extra></extra>"
    figure.update_traces(customdata=counts, hovertemplate=hover, xgap=1, ygap=1, **shown)
    ticks = {"tickvals": list(range(len(names))), "ticktext": [label(name, 16) for name in names], "showgrid": False}
    figure.update_xaxes(**ticks).update_yaxes(**ticks)
    frame = pd.DataFrame(counts, columns=names)
    frame.insert(0, "true", names, allow_duplicates=True)
    note = f"Test split: {counts.trace():,} of {counts.sum():,} right ({counts.trace() / max(counts.sum(), 1):.2%}). "
    note += "Rows are true classes, columns predicted ones. The shade is the square root of the share of the row."
    figure = _styled(figure, coloraxis={"colorscale": None, "cmin": 0, "cmax": 1})
    return Figure("Confusion matrix", note, figure, Table("Counts", frame), height=470)


def _scatter(frame: pd.DataFrame) -> Figure:
    figure = px.scatter(frame, x="target", y="prediction", opacity=0.7, render_mode="svg")
    ends = [frame.min().min(), frame.max().max()]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"dash": "dash"})
    note = f"Test split: {counted(len(frame), 'sample')}. On the dashed line the prediction equals the target."
    table = Table(f"The first {min(len(frame), MOST_ROWS)} of {counted(len(frame), 'sample')}", frame[:MOST_ROWS])
    return Figure("Predicted against true value", note, _styled(figure, showlegend=False), table, height=470)


def sweep_figures(sweep: SweepFolder, means: pd.DataFrame) -> list[Figure]:
    """Parallel coordinates, and the objective against each setting; empty for fewer than two runs or no settings.

    Args:
        sweep: its runs are drawn against each setting if no two of them differ only in their seed.
        means: the means from `over_seeds`, drawn otherwise.
    """
    runs = sweep.ranked
    if len(runs) < 2 or not sweep.settings:
        return []
    if means["runs"].max() > 1:
        means = means.dropna(subset=sweep.objectives[:1])
        return [_parallel(sweep, runs), *(_against(means, key, sweep) for key in sweep.settings if key != "seed")]
    return [_parallel(sweep, runs), *(_against(runs, key, sweep) for key in sweep.settings)]


def _parallel(sweep: SweepFolder, runs: pd.DataFrame) -> Figure:
    """Parallel coordinates as a line chart: Plotly's own need WebGL and `eval`, which the report's policy forbids."""
    parallel = parallel_axes(runs, sweep.settings, sweep.objectives)
    names = list(parallel.axes)
    frame = pd.DataFrame(
        {
            "axis": np.tile([*range(len(names)), np.nan], len(runs)),
            "position": np.column_stack([parallel.positions, np.full(len(runs), np.nan)]).ravel(),
            "shade": np.repeat((parallel.score * SHADES).clip(0, SHADES - 1).astype(int), len(names) + 1),
            "run": np.repeat([f"job {job}" for job in runs.loc[parallel.positions.index, "job"]], len(names) + 1),
        }
    )
    figure = px.line(frame, x="axis", y="position", color="shade", hover_name="run", render_mode="svg")
    figure = _styled(figure, showlegend=False, hovermode="closest")
    figure.update_traces(hovertemplate="%{hovertext}<extra></extra>", line={"color": BLUE, "width": 1.3})
    figure.for_each_trace(lambda trace: trace.update(opacity=0.12 + 0.8 * int(trace.name) / SHADES))
    best = {
        "y": parallel.positions.iloc[-1],
        "marker": {"symbol": "star", "size": 11},
        "line": {"color": ORANGE, "width": 3.5},
    }
    figure.add_scatter(x=list(range(len(names))), mode="lines+markers", hoverinfo="skip", **best)
    for index, each in enumerate(parallel.axes.values()):
        figure.add_vline(index, line={"color": GREY, "width": 1})
        for position, tick in each.few_ticks():
            figure.add_annotation(x=index, y=position, text=label(tick, 14), showarrow=False, xanchor="left", xshift=4)
    heads = [label(name, 30).replace(".", ".<br>") for name in names]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=heads, side="top", showgrid=False, title_text="")
    figure.update_xaxes(range=[-0.1, len(names) - 0.55]).update_yaxes(visible=False, range=[-0.06, 1.06])
    figure.update_layout(margin={"t": 50, "b": 8})
    note = f"One line per run ({len(runs):,}): the more opaque, the better. The best one is thick and has stars. "
    note += f"{len(names) - len(sweep.objectives)} of {counted(len(sweep.settings), 'setting')}."
    if absent := len(sweep.runs) - len(runs):
        note += f" {counted(absent, 'run')} without a finite objective {'is' if absent == 1 else 'are'} not shown."
    return Figure("Settings and objective", note, figure, wide=True, height=400)


def _against(frame: pd.DataFrame, key: str, sweep: SweepFolder) -> Figure:
    """The first objective against a setting, of runs or of means with intervals; few values are evenly spaced."""
    name = sweep.objectives[0]
    across, up = axis(frame[key]), axis(frame[name])
    values = sorted(frame[key].unique(), key=natural)
    # Sampled numbers are on a numeric axis, however few there are.
    few = across.kind == "names" or (len(values) <= FEW and all(short(value) == value for value in values))
    others = [other for other in sweep.settings if other not in (key, "seed")]
    shown = pd.DataFrame({"x": frame[key].map(_category) if few else across.values, "y": frame[name]})
    shown["other"] = [label(", ".join(map(short, row)), 30) for row in frame[others].to_numpy()]
    bounds = [f"{name} low", f"{name} high"]
    are_means = bounds[1] in frame
    shown["half"] = frame[bounds[1]] - frame[name] if are_means else 0.0
    colour = "other" if 1 < shown["other"].nunique() <= len(COLOURS) else None
    style: dict[str, Any] = {"color": colour, "symbol": colour, "hover_name": "other", "opacity": 0.75}
    style["category_orders"] = {"other": sorted(set(shown["other"]), key=natural)}
    if shown["half"].any() and (colour or not others):  # with more settings the bars would overlap
        style["error_y"] = "half"
    logs = {"log_x": not few and across.kind == "log", "log_y": up.kind == "log"}
    figure = px.scatter(shown, x="x", y="y", render_mode="svg", **logs, **style)
    figure.update_traces(hovertemplate="%{x} %{hovertext}: %{y:.4g}<extra></extra>").update_yaxes(
        title_text=label(name)
    )
    figure.update_xaxes(title_text=label(key))
    if few:
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=[_category(each) for each in values])
        ticks = values[:: -(-len(values) // MOST_TICKS)]
        texts = [label(short(each) or NOT_SET, 16) for each in ticks]
        figure.update_xaxes(tickvals=[_category(each) for each in ticks], ticktext=texts)
    if up.kind != "log":
        spread = shown["half"].fillna(0)
        figure.update_yaxes(range=_padded((shown["y"] - spread).min(), (shown["y"] + spread).max()))
    note = (
        f"Means over the seeds{' with their 95 % intervals' if 'error_y' in style else ''}."
        if shown["half"].any()
        else ""
    )
    if are_means:
        caption = f"{name} by {key}: means over seeds with their 95 % intervals and numbers of runs"
        table, settings = (
            frame.set_index(key).loc[values, [*others, name, *bounds, "runs"]].reset_index(),
            [key, *others],
        )
    else:
        caption = f"{name} by {key}"
        columns = {f"mean {name}": "mean", f"lowest {name}": "min", f"highest {name}": "max", "runs": "count"}
        table, settings = frame.groupby(key)[name].agg(**columns).loc[values].reset_index(), [key]
    layout = {"hovermode": "closest", "scattermode": "group" if few else None, "showlegend": colour is not None}
    return Figure(
        f"{name} against {key}",
        f"{note} Colours: {', '.join(others)}." if colour else note,
        _styled(figure, **layout),
        Table(caption, rounded(table[:MOST_ROWS], settings), name.rpartition("/")[2]),
        height=_height(320, sorted(set(shown["other"])) if colour else [""]),
    )


def _category(value: str) -> str:
    """The label at full length, because two long values may differ only in the middle."""
    return label(value or NOT_SET, len(value) + len(NOT_SET))
