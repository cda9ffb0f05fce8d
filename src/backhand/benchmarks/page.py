"""What a benchmark leaves: tables on the terminal, benchmark.json, a chart, and its part of docs/benchmarks.md."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure as Picture
from rich.console import Console
from rich.table import Table

from backhand.benchmarks.timing import Figure, Ratio, Report
from backhand.config.files import atomic_write, replacing

MET, MISSED, NO_GOAL = "#1f6fb4", "#d1600f", "#8a8f98"
PACKAGES = ("torch", "torchvision", "lightning", "scikit-learn", "jax")


def machine(device: torch.device) -> dict[str, Any]:
    """The machine, and the versions that it ran."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "versions": versions,
    }


def print_report(report: Report, console: Console) -> None:
    """Two tables: what each took, and the ratios beside their goals."""
    for title, rows in ((report.title, report.figures), ("Ratios, round by round", report.ratios)):
        table = Table(title=title, title_justify="left")
        for column in (
            "case",
            "",
            "median",
            "quartiles",
            *(["at most"] if rows and isinstance(rows[0], Ratio) else []),
        ):
            table.add_column(column, justify="left" if column in ("case", "") else "right")
        last = None
        for row in rows:
            if last is not None and row.case != last:
                table.add_section()
            table.add_row("" if row.case == last else row.case, *_cells(row))
            last = row.case
        console.print(table)


def write_json(reports: Mapping[str, Report], about: Mapping[str, Any], path: Path) -> None:
    """Everything that was measured."""
    contents = {**about, "benchmarks": {name: _record(report) for name, report in reports.items()}}
    atomic_write(path, json.dumps(contents, indent=2, ensure_ascii=False) + "\n")


def write_chart(reports: Mapping[str, Report], about: Mapping[str, Any], path: Path) -> None:
    """Every ratio as a point between its quartiles, on a scale of factors, with a bar where its goal ends."""
    rows = [ratio for report in reports.values() for ratio in report.ratios]
    picture = Picture(figsize=(9, 1.3 + 0.34 * len(rows)), layout="constrained")
    axes = picture.subplots()
    axes.set_xscale("log")
    axes.axvline(1, color=NO_GOAL, linewidth=1)
    for place, row in enumerate(rows):
        colour = {True: MET, False: MISSED, None: NO_GOAL}[row.met]
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2)
        axes.plot(row.median, place, "s" if row.met is False else "o", color=colour)
        if row.at_most is not None:
            axes.plot(row.at_most, place, "|", color="black", markersize=14, markeredgewidth=1.5)
        axes.annotate(f"{row.median:.2f}", (row.median, place), xytext=(0, 5), textcoords="offset points",
                      ha="center", fontsize=7)  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{row.name}\n{row.case}" if row.case else row.name for row in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.8)
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5) if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    picture.suptitle(
        f"Time (or memory) of one over the other: left of 1 is less. {about['device']}, {about['date']}\n"
        "|: the goal; a square misses it",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    with replacing(path) as aside:
        picture.savefig(aside, dpi=150, format="png")


def update_page(reports: Mapping[str, Report], about: Mapping[str, Any], path: Path) -> None:
    """Put each benchmark's figures where the page has its part, between two marks, and leave the rest as it is.

    Raises:
        ValueError: the page has no such part.
    """
    text = path.read_text(encoding="utf-8")
    for name, report in reports.items():
        begin, end = f"<!-- {name}: written by scripts/benchmark.py -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{path}: has no part between {begin} and {end}")
        part = f"{begin}\n{_markdown(report, about)}\n{end}"
        text = pattern.sub(lambda _, part=part: part, text)  # type: ignore[misc]
    atomic_write(path, text)


def _markdown(report: Report, about: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    lines = [f"{about['device']}, {about['threads']} threads, {about['date']}; {versions}.", ""]
    for rows in (report.ratios, report.figures):
        if not rows:
            continue
        header = ["case", "", "median", "quartiles"] + (["at most"] if isinstance(rows[0], Ratio) else [])
        lines += [f"| {' | '.join(header)} |", f"|{'---|' * 2}{'---:|' * (len(header) - 2)}"]
        lines += [f"| {' | '.join((row.case, *_cells(row)))} |" for row in rows]
        lines.append("")
    return "\n".join(lines).rstrip()


def _cells(row: Figure | Ratio) -> Sequence[str]:
    if isinstance(row, Figure):
        return row.name, f"{_number(row.median)} {row.unit}", f"{_number(row.low)} – {_number(row.high)}"
    goal = "" if row.at_most is None else f"{row.at_most:.2f}{'' if row.met else ' (missed)'}"
    return row.name, f"{row.median:.2f}", f"{row.low:.2f} – {row.high:.2f}", goal


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _record(report: Report) -> dict[str, Any]:
    return {
        "title": report.title,
        "figures": [asdict(row) for row in report.figures],
        "ratios": [{**asdict(row), "met": row.met} for row in report.ratios],
    }


def _processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
