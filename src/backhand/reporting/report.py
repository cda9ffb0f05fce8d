"""`python scripts/report.py FOLDER` writes the report of a run, a sweep or several of them as one HTML file."""

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
from backhand.reporting.terminal import print_table, relative_to_cwd

if TYPE_CHECKING:
    from backhand.reporting.sections import Report

USAGE = """
Write a report of a run or of a sweep: one HTML file that needs no network.

  python scripts/report.py outputs/2026-01-31/12-00-00
  python scripts/report.py outputs/2026-01-31/12-00-00 outputs/2026-02-01/09-30-00

  FOLDER ...      a run's or a sweep's folder, or several to compare (of a sweep its best setting)
  out=FILE        default: report.html in the folder, or in the current one for several; an earlier report is replaced
"""

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
# A file that contains this is an earlier report and may be replaced.
GENERATOR = '<meta name="generator" content="backhand report">'


@dataclass
class ReportArguments:
    """The arguments of `scripts/report.py` other than folders."""

    out: str | None = None


@script
def main(command_line: list[str]) -> int:
    """Run `scripts/report.py`."""
    # The name of a folder may contain an equals sign. Unlike pathlib, `os.path.isdir` accepts a name that is too long.
    settings = [each for each in command_line if "=" in each and not os.path.isdir(each)]  # noqa: PTH112
    given = [each for each in command_line if each in (*settings, "--help", "-h")]
    folders = [each for each in command_line if each not in given]
    arguments = parse(ReportArguments, given, USAGE)
    if not folders:
        raise UserError("give the folder of a run or of a sweep, as in outputs/2026-01-31/12-00-00; see --help")
    out = Path(arguments.out or Path(folders[0] if len(folders) == 1 else "", "report.html"))
    report = write_report(folders, out)
    if report.comparisons:
        from backhand.reporting.sections import format_pairs

        for title, pairs in format_pairs(report.comparisons):
            print_table(title, pairs)
    for line in report.remarks:
        print(line)
    print(relative_to_cwd(out.absolute()))
    return 0


def write_report(folders: Sequence[Path | str], out: Path | str) -> "Report":
    """Write the report of a run, of a sweep, or of several folders as one HTML file.

    Args:
        folders: folders of runs and of sweeps.
        out: the HTML file; an earlier report is replaced, any other file is not.

    Returns:
        The content of the report.

    Raises:
        UserError: a folder is neither a run's nor a sweep's or is given twice, or the file cannot be written.
    """
    paths, file = [Path(each) for each in folders], Path(out)
    _check_folders(paths)
    _check_out(file)
    from backhand.reporting.sections import build_report  # pandas and Plotly, imported only for valid arguments

    report = build_report(paths, file.parent)
    try:
        atomic_write(file, render(report))
    except OSError as error:
        raise UserError(f"out={out}: cannot be written ({error.strerror})") from None
    return report


def write_report_or_warn(folder: Path) -> None:
    """Write the report of a run or sweep that has just ended; log a warning if it cannot be written."""
    try:
        write_report([folder], folder / "report.html")
    except UserError as error:
        log.warning("no report: %s", error)


def render(report: "Report") -> str:
    """Render a report as HTML that contains its style, its script and Plotly."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from backhand.reporting.charts import templates
    from backhand.reporting.sections import SIGNS

    packed, script = (HERE / "plotly-cartesian.min.js.gz").read_bytes(), (HERE / "report.js").read_text("utf-8")
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["embedded"] = lambda text: Markup(embedded(text))
    return environment.get_template("report.html.j2").render(
        report=report,
        signs=SIGNS,
        generator=Markup(GENERATOR),
        style=Markup((HERE / "report.css").read_text("utf-8")),
        script=Markup(script),
        templates=json.dumps(templates(), separators=(",", ":")),
        plotly=base64.b64encode(packed).decode(),
        # The report's script unpacks Plotly and inserts it, so the policy needs the hashes of both.
        policy=" ".join(f"'sha256-{_digest(each)}'" for each in (script.encode(), gzip.decompress(packed))),
    )


def embedded(text: str) -> str:
    """Escape JSON for a script element, so that nothing in it ends the element or begins a comment."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("\u2028", "\\u2028")


def _digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def _check_folders(folders: Sequence[Path]) -> None:
    from backhand.reporting.folder import is_sweep

    for index, folder in enumerate(folders):
        is_sweep(folder)  # raises UserError if it is neither
        if folder.resolve() in [each.resolve() for each in folders[:index]]:
            raise UserError(f"{folder}: is given twice")


def _check_out(out: Path) -> None:
    argument = f"out={out}"
    try:
        if out.is_dir():
            raise UserError(f"{argument}: is a folder; give a file in it")
        if not out.absolute().parent.is_dir():
            raise UserError(f"{argument}: the folder {out.parent} does not exist")
        if not out.exists():
            return
        if not out.is_file():
            raise UserError(f"{argument}: is not a file, but a pipe, a socket or a device")
        with out.open("rb") as file:
            is_report = GENERATOR.encode() in file.read(1000)
    except OSError as error:
        raise UserError(f"{argument}: cannot be written ({error.strerror})") from None
    if not is_report:
        raise UserError(f"{argument}: already exists and is not a report; nothing is overwritten")
