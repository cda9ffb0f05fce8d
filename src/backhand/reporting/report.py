"""The local report: `python scripts/report.py FOLDER` makes one HTML file of a run, a sweep or several of them."""

import base64
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from backhand.calculus.choices import check_choice
from backhand.config.arguments import parse
from backhand.config.command import script
from backhand.config.files import atomic_write
from backhand.errors import UserError
from backhand.reporting.terminal import shown

USAGE = """
Make a report of a run or of a sweep: one HTML file that needs no network.

  python scripts/report.py outputs/2026-01-31/12-00-00
  python scripts/report.py outputs/2026-01-31/12-00-00 outputs/2026-02-01/09-30-00

  FOLDER ...      a run's folder, a sweep's, or several, which are put side by side (of a sweep its best run)
  format=html     or text, for the terminal
  out=FILE        report.html in the folder by default, or here for several; an earlier report is replaced
"""

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
# How a file of ours is known again, and may be replaced.
GENERATOR = '<meta name="generator" content="backhand report">'


@dataclass
class ReportArguments:
    """What `scripts/report.py` takes beside folders."""

    format: str = "html"
    out: str | None = None


@script
def main(command_line: list[str]) -> int:
    """The command."""
    # A folder's name may have an equals sign in it.
    given = [each for each in command_line if ("=" in each and not Path(each).is_dir()) or each in ("--help", "-h")]
    folders = [Path(each) for each in command_line if each not in given]
    arguments = parse(ReportArguments, given, USAGE)
    check_choice("format", arguments.format, ("html", "text"))
    if not folders:
        raise UserError("name the folder of a run or of a sweep, as in outputs/2026-01-31/12-00-00; see --help")
    if arguments.format == "text":
        if arguments.out is not None:
            raise UserError(f"out={arguments.out}: is for format=html; with format=text redirect what is printed")
        print_report(folders)
        return 0
    out = (
        Path(arguments.out)
        if arguments.out is not None
        else (folders[0] if len(folders) == 1 else Path()) / "report.html"
    )
    write_report(folders, out)
    print(shown(out.absolute()))
    return 0


def write_report(folders: Sequence[Path], out: Path) -> None:
    """Write the report of a run, of a sweep, or of several folders as one HTML file.

    Args:
        folders: the runs' and sweeps'.
        out: the file; an earlier report is replaced, anything else is not.

    Raises:
        UserError: a folder is neither a run's nor a sweep's, or named twice, or the file cannot be written.
    """
    _check_folders(folders)
    _check_out(out)
    text = render(folders, out.parent)
    try:
        atomic_write(out, text)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror})") from None


def leave_report(folder: Path) -> None:
    """Write the report of a run or of a sweep that has just ended; where the disk is full, all else is there."""
    try:
        write_report([folder], folder / "report.html")
    except UserError as error:
        log.warning("no report: %s", error)


def render(folders: Sequence[Path], beside: Path) -> str:
    """The HTML; its links start from the folder `beside`."""
    # The seconds that numpy and matplotlib take to import are spent only when the arguments are right.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from backhand.reporting.charts import Chart
    from backhand.reporting.page import SIGNS, build_page

    page = build_page(folders, beside)
    charts = [block for section in page.sections for block in section.blocks if isinstance(block, Chart)]
    scripts = [
        (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8"),
        (HERE / "report.js").read_text(),
    ]
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    places = {id(chart): place for place, chart in enumerate(charts)}
    environment.filters["place"] = lambda chart: places[id(chart)]
    text = environment.get_template("report.html.j2").render(
        page=page,
        signs=SIGNS,
        generator=Markup(GENERATOR),
        style=Markup((HERE / "report.css").read_text()),
        scripts=[Markup(each) for each in scripts] if charts else [Markup(scripts[1])],
        policy=" ".join(f"'sha256-{_digest(each)}'" for each in scripts),
        charts=Markup(embedded([{"data": each.data, "layout": each.layout} for each in charts])),
    )
    # What is no character by itself (half of a pair, or a byte of a file's name) cannot be written.
    return text.encode("utf-8", "replace").decode()


def embedded(value: Any) -> str:
    """JSON that a script element may hold: nothing in it ends the element or begins a comment."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def print_report(folders: Sequence[Path]) -> None:
    """Print the same on the terminal."""
    _check_folders(folders)
    from backhand.reporting.page import build_page
    from backhand.reporting.report_text import print_page

    print_page(build_page(folders, Path()))


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _check_folders(folders: Sequence[Path]) -> None:
    from backhand.reporting.folder import check_folder

    places: set[Path] = set()
    for folder in folders:
        check_folder(folder)
        place = folder.resolve()
        if place in places:
            raise UserError(f"{folder}: is named twice")
        places.add(place)


def _check_out(out: Path) -> None:
    where = f"out={out}"
    if out.is_dir():
        raise UserError(f"{where}: is a folder; name a file in it")
    if not out.absolute().parent.is_dir():
        raise UserError(f"{where}: there is no folder {out.parent}")
    if not out.exists():
        return
    if not out.is_file():
        raise UserError(f"{where}: is not a file, but a pipe, a socket or a device")
    try:
        with out.open("rb") as file:
            ours = GENERATOR.encode() in file.read(1000)
    except OSError as error:
        raise UserError(f"{where}: cannot be written ({error.strerror})") from None
    if not ours:
        raise UserError(f"{where}: exists already, and is no report; nothing is overwritten")
