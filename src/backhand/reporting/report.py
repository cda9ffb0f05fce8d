"""The local report: `python scripts/report.py FOLDER` makes one HTML file of a run, a sweep or several of them."""

import base64
import gzip
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backhand.config.arguments import parse
from backhand.config.command import script
from backhand.config.files import atomic_write
from backhand.errors import UserError
from backhand.reporting.terminal import print_table, shown

if TYPE_CHECKING:
    from backhand.reporting.page import Page

USAGE = """
Make a report of a run or of a sweep: one HTML file that needs no network.

  python scripts/report.py outputs/2026-01-31/12-00-00
  python scripts/report.py outputs/2026-01-31/12-00-00 outputs/2026-02-01/09-30-00

  FOLDER ...      a run's folder, a sweep's, or several, which are put side by side (of a sweep its best setting)
  out=FILE        report.html in the folder by default, or here for several; an earlier report is replaced
"""

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
# How a file of ours is known again, and may be replaced.
GENERATOR = '<meta name="generator" content="backhand report">'


@dataclass
class ReportArguments:
    """What `scripts/report.py` takes beside folders."""

    out: str | None = None


@script
def main(command_line: list[str]) -> int:
    """The command."""
    # A folder's name may have an equals sign in it. os.path's `isdir` has an answer for a name that is too long, too.
    settings = [each for each in command_line if "=" in each and not os.path.isdir(each)]  # noqa: PTH112
    given = [each for each in command_line if each in (*settings, "--help", "-h")]
    folders = [each for each in command_line if each not in given]
    arguments = parse(ReportArguments, given, USAGE)
    if not folders:
        raise UserError("name the folder of a run or of a sweep, as in outputs/2026-01-31/12-00-00; see --help")
    out = Path(arguments.out or Path(folders[0] if len(folders) == 1 else "", "report.html"))
    page = write_report(folders, out)
    if page.comparisons:
        from backhand.reporting.page import written_pairs

        for title, pairs in written_pairs(page.comparisons):
            print_table(title, pairs)
    for line in page.remarks:
        print(line)
    print(shown(out.absolute()))
    return 0


def write_report(folders: Sequence[Path | str], out: Path | str) -> "Page":
    """Write the report of a run, of a sweep, or of several folders as one HTML file.

    Args:
        folders: the runs' and sweeps'.
        out: the file; an earlier report is replaced, anything else is not.

    Returns:
        What is on the page.

    Raises:
        UserError: a folder is neither a run's nor a sweep's, or named twice, or the file cannot be written.
    """
    paths, file = [Path(each) for each in folders], Path(out)
    _check_folders(paths)
    _check_out(file)
    from backhand.reporting.page import build_page  # pandas and Plotly: only when the arguments are right

    page = build_page(paths, file.parent)
    try:
        atomic_write(file, render(page))
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror})") from None
    return page


def leave_report(folder: Path) -> None:
    """Write the report of a run or of a sweep that has just ended; where the disk is full, all else is there."""
    try:
        write_report([folder], folder / "report.html")
    except UserError as error:
        log.warning("no report: %s", error)


def render(page: "Page") -> str:
    """The HTML of a page, with its style, its scripts and Plotly's in it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from backhand.reporting.charts import templates
    from backhand.reporting.page import SIGNS

    packed, script = (HERE / "plotly-cartesian.min.js.gz").read_bytes(), (HERE / "report.js").read_text("utf-8")
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["embedded"] = lambda text: Markup(embedded(text))
    return environment.get_template("report.html.j2").render(
        page=page,
        signs=SIGNS,
        generator=Markup(GENERATOR),
        style=Markup((HERE / "report.css").read_text("utf-8")),
        script=Markup(script),
        templates=json.dumps(templates(), separators=(",", ":")),
        plotly=base64.b64encode(packed).decode(),
        # The page's script unpacks Plotly's and inserts it, which the policy allows by its hash as well.
        policy=" ".join(f"'sha256-{_digest(each)}'" for each in (script.encode(), gzip.decompress(packed))),
    )


def embedded(text: str) -> str:
    """JSON as a script element may hold it: nothing in it ends the element or begins a comment."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028")


def _digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _check_folders(folders: Sequence[Path]) -> None:
    from backhand.reporting.folder import is_sweep

    for place, folder in enumerate(folders):
        is_sweep(folder)  # raises where it is neither
        if folder.resolve() in [each.resolve() for each in folders[:place]]:
            raise UserError(f"{folder}: is named twice")


def _check_out(out: Path) -> None:
    where = f"out={out}"
    try:
        if out.is_dir():
            raise UserError(f"{where}: is a folder; name a file in it")
        if not out.absolute().parent.is_dir():
            raise UserError(f"{where}: there is no folder {out.parent}")
        if not out.exists():
            return
        if not out.is_file():
            raise UserError(f"{where}: is not a file, but a pipe, a socket or a device")
        with out.open("rb") as file:
            ours = GENERATOR.encode() in file.read(1000)
    except OSError as error:
        raise UserError(f"{where}: cannot be written ({error.strerror})") from None
    if not ours:
        raise UserError(f"{where}: exists already, and is no report; nothing is overwritten")
