"""The pictures of a run. They are drawn with matplotlib's Figure, which needs no screen."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from backhand.config.files import replacing
from backhand.config.validation import larger_is_better

TRAIN, VAL, MUTED = "#1f6fb4", "#d1600f", "#8a8f98"
TITLES = {"loss": "Loss", "acc": "Accuracy", "r2": "R² (share of the variance explained)"}
MOST_SETTINGS = 12
LOG_SPAN = 20.0
FEW = 16  # so many different numbers are labelled as written, more of them with round numbers
LONGEST_CLASS = 32  # letters of a class's name that are shown
LETTER = 0.066  # inches, of a tick label of 8 points
BEYOND = 0.12  # how far outside an axis of [0, 1] the runs stand that are too far off


def curves(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Loss, and accuracy or R², by epoch: training against validation."""
    metrics = [metric for metric in ("loss", "acc", "r2") if any(f"val/{metric}" in row for row in rows)] or ["loss"]
    figure = Figure(figsize=(5 * len(metrics), 3.4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for split, colour, style in (("train", TRAIN, "-"), ("val", VAL, "--")):
            points = [(row["epoch"] + 1, row[f"{split}/{metric}"]) for row in rows if f"{split}/{metric}" in row]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, style, color=colour, label="training" if split == "train" else "validation")
                if len(points) == 1:
                    axes.plot(x, y, "o", color=colour)
        axes.set(title=TITLES[metric], xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
        _plain(axes)
    _save(figure, path)


def confusion(counts: np.ndarray, names: Sequence[str], path: Path) -> None:
    """How often each true class (row) was taken for each class (column) on the test split."""
    size = max(3.6, 0.5 * len(names) + 1.6)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    dark = counts.max() / 2
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", color="white" if count > dark else "black")
    accuracy = counts.trace() / max(counts.sum(), 1)
    axes.set(
        title=f"Test split: {counts.trace()} of {counts.sum()} right ({accuracy:.1%})",
        xlabel="predicted",
        ylabel="true",
        xticks=range(len(names)),
        yticks=range(len(names)),
    )
    labels = [_short(name, LONGEST_CLASS) for name in names]
    axes.set_xticklabels(labels, rotation=45 if max(map(len, labels)) > 2 else 0)
    axes.set_yticklabels(labels)
    _save(figure, path)


def predictions(target: np.ndarray, predicted: np.ndarray, path: Path) -> None:
    """Predicted against true value on the test split, in the target's own units."""
    target, predicted = target.ravel(), predicted.ravel()
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axes = figure.subplots()
    low, high = min(target.min(), predicted.min()), max(target.max(), predicted.max())
    axes.plot([low, high], [low, high], "--", color=MUTED, label="prediction = truth")
    axes.plot(target, predicted, "o", color=TRAIN, alpha=0.7, markersize=4)
    axes.set(title=f"Test split: {len(target)} samples", xlabel="true value", ylabel="predicted value", aspect="equal")
    axes.legend(frameon=False)
    _plain(axes)
    _save(figure, path)


@dataclass(frozen=True)
class Swept:
    """What a sweep tried and found; every list has one entry a run.

    Attributes:
        settings: each swept key with the values as written on the command line; "" where a run did not set it.
        objectives: the name of each objective with its values, all finite. The first decides colours and the best run.
        maximize: whether the first objective is better when larger; the others go by their names.
    """

    settings: dict[str, list[str]]
    objectives: dict[str, list[float]]
    maximize: bool


@dataclass(frozen=True)
class Scale:
    """Where values lie along an axis, which runs from 0 to 1.

    Attributes:
        kind: "linear", "log" or "names".
        places: one a run. A value that has no place among the numbers is drawn outside [0, 1].
        ticks: place and label, in rising order of the place.
        beyond: one a run, whether its value is too far off to be drawn to scale.
    """

    kind: str
    places: np.ndarray
    ticks: list[tuple[float, str]]
    beyond: np.ndarray


def sweep_plot(swept: Swept, path: Path) -> None:
    """Every run of a sweep as a line through its settings to its objective, and the objective against each setting.

    With several objectives the last panel shows the second against the first and their Pareto front. More than
    `MOST_SETTINGS` settings are cut to the first of them, which the title says.
    """
    settings = {key: setting_scale(swept.settings[key]) for key in list(swept.settings)[:MOST_SETTINGS]}
    larger = [swept.maximize, *(larger_is_better(name) for name in list(swept.objectives)[1:])]
    values = [np.array(column, float) for column in swept.objectives.values()]
    found = {
        name: objective_scale(column, up) for name, column, up in zip(swept.objectives, values, larger, strict=True)
    }
    name, objective = next(iter(found.items()))
    # Best last; of equal runs the first one counts as the better, as in the table on the terminal.
    order = np.argsort(-values[0] if swept.maximize else values[0], kind="stable")[::-1]
    nearness = np.clip(objective.places if swept.maximize else 1 - objective.places, 0, 1)
    palette = LinearSegmentedColormap.from_list("sweep", ["#cfd3d9", "#8fb3d3", TRAIN, "#0d3760"])
    colours = palette(nearness)

    panels = len(settings) + (len(found) > 1)
    columns = min(4, panels)
    rows = -(-panels // columns)
    width = max(7.0, 3.1 * columns, 1.15 * (len(settings) + len(found)) + 0.8)
    longest = max(len(_short(text, 16)) for scale in settings.values() for _, text in scale.ticks)
    # Slanted labels and keys of several lines take their room from the panels, so the figure grows by as much.
    top = 3.6 + 0.15 * max(_wrapped(key, 15).count("\n") for key in settings)
    row = 2.45 + 0.045 * longest
    figure = Figure(figsize=(width, top + row * rows + 0.4), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.09, w_pad=0.08)  # type: ignore[union-attr,call-arg]
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[top, *[row] * rows])
    _lines(
        figure.add_subplot(grid[0, :]),
        settings,
        found,
        order,
        colours,
        palette if swept.maximize else palette.reversed(),
        (width - 1) / (len(settings) + len(found) - 1),
    )
    for panel, (key, scale) in enumerate(settings.items()):
        axes = figure.add_subplot(grid[1 + panel // columns, panel % columns])
        places = scale.places
        if scale.kind == "names":
            # Without it the runs of one name hide each other; the seed keeps the picture the same every time.
            spread = 0.22 / max(len(set(places)) - 1, 1)
            places = places + np.random.default_rng(0).uniform(-spread, spread, len(places))
        _dots(axes, places, objective, order, colours)
        _ticks(axes, key, scale, width / columns - 0.9)
        axes.set_ylabel(_wrapped(name, 24) if panel % columns == 0 else "")
    if len(found) > 1:
        other, second = list(found.items())[1]
        axes = figure.add_subplot(grid[1 + (panels - 1) // columns, (panels - 1) % columns])
        front = np.flatnonzero(pareto_front(values[0], values[1], (larger[0], larger[1])))
        front = front[np.argsort(values[0][front])]
        _dots(axes, second.places, objective, order, colours)
        axes.plot(second.places[front], objective.places[front], "-o", color="black", markerfacecolor="none", lw=1)
        axes.set_title(f"Pareto front: {len(front)} of {len(order)}", fontsize=9)
        _ticks(axes, other, second, width / columns - 0.9)
        axes.set_ylabel(_wrapped(name, 24))
    figure.suptitle(_heading(swept, values, found), fontsize=11)
    _save(figure, path)


def setting_scale(values: Sequence[str]) -> Scale:
    """The axis of a setting.

    Numbers are placed by their size, on a logarithmic axis where they are positive, span more than a factor of
    `LOG_SPAN`, and lie more evenly there than on a linear one. Up to two other values, such as `null`, get a place
    below the numbers; with more of them, or fewer than two numbers, every value is a name.
    """
    numbers = {value: number for value in values if math.isfinite(number := _number(value))}
    names = sorted(set(values) - set(numbers), key=_natural)
    if len(set(numbers.values())) < 2 or len(names) > 2:
        every = [*sorted(numbers, key=lambda value: numbers[value]), *names]
        at = dict(zip(every, np.linspace(0, 1, len(every)) if len(every) > 1 else [0.5], strict=True))
        return Scale(
            "names",
            np.array([at[value] for value in values]),
            [(float(place), value or "not set") for value, place in at.items()],
            np.zeros(len(values), bool),
        )
    distinct = np.unique(list(numbers.values()))
    kind = "log" if _log_is_better(distinct) else "linear"
    at = {value: float(_placed(np.array(number), distinct, kind)) for value, number in numbers.items()}
    below = {value: -0.16 * (number + 1) for number, value in enumerate(reversed(names))}
    if len(distinct) <= FEW:
        spelt = {place: _spelt(value) for value, place in reversed(at.items())}
        ticks = sorted(spelt.items())
    else:
        ticks = _round_ticks(distinct, kind)
    return Scale(
        kind,
        np.array([(at | below)[value] for value in values]),
        [*sorted((place, value or "not set") for value, place in below.items()), *ticks],
        np.zeros(len(values), bool),
    )


def objective_scale(values: np.ndarray, maximize: bool) -> Scale:
    """The axis of an objective. Runs that are far worse than the bulk lie beyond its end, on the side of the worse."""
    loss = -values if maximize else values
    within = loss <= _limit(loss)
    if _log_is_better(np.unique(values)) and _unevenness(np.log(np.unique(values))) < 0.12:
        within[:] = True
    kept = np.unique(values[within])
    kind = "log" if _log_is_better(kept) else "linear"
    far = -BEYOND if maximize else 1 + BEYOND
    places = np.full(len(values), far)
    places[within] = _placed(values[within], kept, kind)
    ticks = _round_ticks(kept, kind)
    if not within.all():
        ticks = sorted([*ticks, (far, f"{(~within).sum()} beyond")])
    return Scale(kind, places, ticks, ~within)


def pareto_front(first: np.ndarray, second: np.ndarray, maximize: tuple[bool, bool]) -> np.ndarray:
    """Which runs no other run beats: is at least as good in both objectives, and better in one; a boolean a run."""
    losses = np.stack([-values if up else values for values, up in zip((first, second), maximize, strict=True)])
    beaten = [np.any(np.all(losses <= own, 0) & np.any(losses < own, 0)) for own in losses.T[:, :, None]]
    return ~np.array(beaten)


def _lines(
    axes: Axes,
    settings: Mapping[str, Scale],
    found: Mapping[str, Scale],
    order: np.ndarray,
    colours: np.ndarray,
    palette: Colormap,
    inches: float,
) -> None:
    """Parallel coordinates, whose axes stand so many inches apart; the colours' own scale is the first objective's."""
    scales = [*settings.values(), *found.values()]
    points = np.stack([scale.places for scale in scales], 1)
    paths = [np.column_stack([range(len(scales)), points[run]]) for run in order]
    runs = len(order)
    alpha = min(0.9, max(0.4, 40 / runs))
    axes.add_collection(LineCollection(paths, colors=colours[order], alpha=alpha, linewidths=1.6 if runs < 50 else 1.1))
    axes.plot(range(len(scales)), points[order[-1]], "-", color=VAL, lw=2.4, zorder=3)
    for number, scale in enumerate(scales):
        axes.plot([number, number], [0, 1], color="#404348", lw=1, zorder=4)
        last = number == len(scales) - 1
        for place, text in thinned_ticks(scale.ticks, 0.055):
            axes.plot([number], [place], "_", color="#404348", markersize=6, zorder=4)
            axes.annotate(
                _short(text, max(10, min(20, int(0.72 * inches / LETTER)))),
                (number, place),
                xytext=(12 if number == len(settings) else 6, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                zorder=5,
                annotation_clip=False,
                bbox=None if last else {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            )
    strip = np.linspace(0, 1, 128)[:, None]
    at = len(settings)
    axes.imshow(strip, cmap=palette, extent=(at, at + 0.1 / inches, 0, 1), origin="lower", aspect="auto", zorder=3.5)
    axes.set(
        xlim=(-0.1, len(scales) - 1 + 0.1 / min(inches, 1)),
        ylim=(min(points.min(), 0) - 0.05, max(points.max(), 1) + 0.05),
    )
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(scales)), [_wrapped(key, 15) for key in [*settings, *found]], fontsize=8.5)
    axes.tick_params(length=0)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _dots(axes: Axes, places: np.ndarray, objective: Scale, order: np.ndarray, colours: np.ndarray) -> None:
    size = 26 if len(order) < 50 else 14
    for marker, chosen in (("o", order[~objective.beyond[order]]), ("x", order[objective.beyond[order]])):
        line = {"edgecolors": "#5f646b", "linewidths": 0.4} if marker == "o" else {"linewidths": 1}
        shade = colours[chosen] if marker == "o" else MUTED
        axes.scatter(places[chosen], objective.places[chosen], size, c=shade, marker=marker, **line)
    best = order[-1]
    axes.plot(places[best], objective.places[best], "*", color=VAL, markersize=13, markeredgecolor="white", zorder=4)
    low, high = min(objective.places.min(), 0), max(objective.places.max(), 1)
    axes.set_ylim(low - 0.07, high + 0.07)
    ticks = thinned_ticks(objective.ticks, 0.1)
    axes.set_yticks([place for place, _ in ticks], [_short(text, 16) for _, text in ticks], fontsize=8)
    _plain(axes)


def _ticks(axes: Axes, key: str, scale: Scale, inches: float) -> None:
    """Label the horizontal axis; slanted, and in the end not every tick, where the labels would touch."""
    low, high = min(scale.places.min(), 0), max(scale.places.max(), 1)
    pad = 0.07 * (high - low) if scale.kind != "names" else max(0.07, 0.3 / max(len(set(scale.places)) - 1, 1))
    axes.set_xlim(low - pad, high + pad)
    per_unit = inches / (high - low + 2 * pad)
    ticks = [(place, _short(text, 16)) for place, text in scale.ticks]
    touching = any(
        (b - a) * per_unit < LETTER * (len(left) + len(right)) / 2 + 0.08 for (a, left), (b, right) in pairwise(ticks)
    )
    slanted = touching and (scale.kind == "names" or len(ticks) <= 8)
    if slanted:
        ticks = thinned_ticks(ticks, 0.2 / per_unit)
    elif touching:
        ticks = thinned_ticks(ticks, (LETTER * max(len(text) for _, text in ticks) + 0.08) / per_unit)
    axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks], fontsize=8)
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=40, ha="right", rotation_mode="anchor")
    missing = scale.kind == "names" and len(ticks) < len(scale.ticks)
    axes.set_xlabel(
        _wrapped(key, 34) + (f"\n({len(scale.ticks)} values, of which {len(ticks)} are named)" if missing else "")
    )


def _heading(swept: Swept, values: Sequence[np.ndarray], found: Mapping[str, Scale]) -> str:
    best = values[0].max() if swept.maximize else values[0].min()
    name = next(iter(swept.objectives))
    lines = [f"{len(values[0])} runs; the best, {name} = {best:.4g}, in orange"]
    if len(swept.settings) > MOST_SETTINGS:
        lines.append(f"the first {MOST_SETTINGS} of {len(swept.settings)} settings")
    for (name, scale), column in zip(found.items(), values, strict=True):
        if count := int(scale.beyond.sum()):
            far = column[scale.beyond]
            worst = far.max() if far.max() > column[~scale.beyond].max() else far.min()
            lines.append(
                f"{count} {'run lies' if count == 1 else 'runs lie'} beyond the axis of {name}, to {worst:.3g}"
            )
    return "\n".join(map(_safe, lines))


def _limit(loss: np.ndarray) -> float:
    """Above which losses are far from the rest: five times as far from the best as most of the runs."""
    best, limit = loss.min(), loss.max()
    for share in (0.95, 0.9, 0.75):
        reach = np.quantile(loss, share, method="lower") - best
        if reach > 0 and limit - best > 5 * reach:
            limit = loss[loss <= best + 5 * reach].max()
    return float(limit)


def _log_is_better(distinct: np.ndarray) -> bool:
    low, high = distinct[0], distinct[-1]
    return bool(low > 0 and high > LOG_SPAN * low and _unevenness(np.log(distinct)) <= _unevenness(distinct))


def _unevenness(distinct: np.ndarray) -> float:
    """How far rising numbers lie from evenly spaced ones, as a mean share of their span."""
    span = distinct[-1] - distinct[0]
    return float(np.abs((distinct - distinct[0]) / span - np.linspace(0, 1, len(distinct))).mean())


def _placed(values: np.ndarray, distinct: np.ndarray, kind: str) -> np.ndarray:
    """Values of [min, max] to [0, 1]."""
    if len(distinct) < 2:
        return np.full(values.shape, 0.5)
    if kind == "log":
        values, distinct = np.log(values), np.log(distinct)
    return (values - distinct[0]) / (distinct[-1] - distinct[0])


def _round_ticks(distinct: np.ndarray, kind: str) -> list[tuple[float, str]]:
    low, high = distinct[0], distinct[-1]
    if low == high:
        return [(0.5, f"{low:.4g}")]
    if kind == "log":
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [10.0**power for power in powers if low <= 10.0**power <= high]
        if len(ticks) < 3:
            ticks = [m * 10.0**power for power in powers for m in (1, 2, 5) if low <= m * 10.0**power <= high]
        ticks = ticks[:: -(-len(ticks) // 7)]
    else:
        whole = bool((distinct == np.round(distinct)).all())
        ticks = [tick for tick in MaxNLocator(5, integer=whole).tick_values(low, high) if low <= tick <= high]
    digits = 4 if kind == "log" else max(4, math.ceil(math.log10(max(abs(low), abs(high)) / (high - low))) + 3)
    return [(float(_placed(np.array(tick), distinct, kind)), f"{tick:.{digits}g}") for tick in ticks]


def thinned_ticks(ticks: Sequence[tuple[float, str]], gap: float) -> list[tuple[float, str]]:
    """Those that stand at least so far behind the one before."""
    kept: list[tuple[float, str]] = []
    for place, text in ticks:
        if not kept or place - kept[-1][0] >= gap:
            kept.append((place, text))
    return kept


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _natural(text: str) -> list[tuple[int, float, str]]:
    """Sort key that puts `[8]` before `[64,32]`."""
    return [(0, float(part), "") if part.isdecimal() else (1, 0.0, part) for part in re.split(r"(\d+)", text) if part]


def _spelt(number: str) -> str:
    return number if len(number) <= 8 else f"{float(number):.3g}"


def _short(text: str, letters: int) -> str:
    if len(text) > letters:
        text = f"{text[: letters - letters // 3 - 1]}…{text[-(letters // 3) :]}"
    return _safe(text)


def _wrapped(key: str, letters: int) -> str:
    """A key in lines of about so many letters, broken after its dots, slashes and underscores."""
    lines = [""]
    for part in re.findall(r"[^./_]*[./_]?", key):
        if lines[-1] and len(lines[-1]) + len(part) > letters:
            lines.append("")
        lines[-1] += part
    return _safe("\n".join(lines))


def _safe(text: str) -> str:
    """Text of which matplotlib takes nothing for a formula, and in which all can be seen."""
    seen = "".join(sign if sign.isprintable() or sign == "\n" else "\N{REPLACEMENT CHARACTER}" for sign in text)
    return seen.replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings(), replacing(path) as aside:
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it, and names are the user's
        figure.savefig(aside, dpi=150, format="png")


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
