"""A short mathematical document: headings, prose, equations and matrices, as terminal text, LaTeX, Markdown or HTML."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO

from latex2mathml.converter import convert
from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Heading:
    """A section's title; `level` 1 is the document's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Prose:
    """A paragraph; names in it are plain text, such as δ_O."""

    text: str


@dataclass(frozen=True)
class Equation:
    """An equation as plain text and in LaTeX, and the shape of what stands on its left."""

    text: str
    latex: str
    shape: str = ""


@dataclass(frozen=True)
class Values:
    """A matrix of numbers, its name in both forms, and what was found when it was checked."""

    text: str
    latex: str
    rows: tuple[tuple[float, ...], ...]
    check: str = ""


Block = Heading | Prose | Equation | Values


def terminal(blocks: Sequence[Block], width: int | None = None, colour: bool = False) -> str:
    """As text for a terminal of so many columns (this one's if None)."""
    console = Console(file=StringIO(), width=width, force_terminal=colour, highlight=False)
    for block in blocks:
        match block:
            case Heading(text, level):
                console.print(Text(f"\n{text}" if level > 1 else text, style="bold"))
            case Prose(text):
                console.print(Text(text))
            case Equation(text, _, shape):
                grid = Table.grid(padding=(0, 2), expand=False)
                grid.add_row("", Text(text), Text(shape, style="dim"))
                console.print(grid)
            case Values(text, _, rows, check):
                grid = Table.grid(padding=(0, 1))
                cells = _aligned(rows)
                for number, row in enumerate(cells):
                    grid.add_row(
                        "", Text(f"{text} =" if number == 0 else ""), Text(row), Text(check if number == 0 else "")
                    )
                console.print(grid)
    file = console.file
    assert isinstance(file, StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def markdown(blocks: Sequence[Block]) -> str:
    """As Markdown with formulas between dollar signs."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"{'#' * level} {text}")
            case Prose(text):
                parts.append(text)
            case Equation(_, latex, shape):
                parts.append(f"$$ {latex}{_latex_shape(shape)} $$")
            case Values(_, latex, rows, check):
                parts.append(f"$$ {latex} = {_matrix(rows)} $$" + (f"\n\n{check}" if check else ""))
    return "\n\n".join(parts) + "\n"


def latex(blocks: Sequence[Block]) -> str:
    """As a whole LaTeX article, for any engine that reads UTF-8."""
    parts = [
        r"\documentclass{article}",
        r"\usepackage{amsmath,amssymb}",
        r"\usepackage[T1]{fontenc}",
        r"\setlength{\parindent}{0pt}",
        r"\begin{document}",
    ]
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(rf"\{'section' if level == 1 else 'subsection'}*{{{_latex_prose(text)}}}")
            case Prose(text):
                parts.append(_latex_prose(text) + r"\par")
            case Equation(_, formula, shape):
                parts.append(rf"\[ {formula}{_latex_shape(shape)} \]")
            case Values(_, formula, rows, check):
                note = rf" \qquad \text{{{_latex_prose(check)}}}" if check else ""
                parts.append(rf"\[ {formula} = {_matrix(rows)}{note} \]")
    return "\n".join([*parts, r"\end{document}"]) + "\n"


def html(blocks: Sequence[Block]) -> str:
    """As one HTML page with MathML; it needs no network and no script."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"<h{level}>{_html_prose(text)}</h{level}>")
            case Prose(text):
                parts.append(f"<p>{_html_prose(text)}</p>")
            case Equation(_, formula, shape):
                note = f'<span class="note">{escape(shape)}</span>' if shape else ""
                parts.append(f'<div class="line" tabindex="0">{convert(formula, display="block")}{note}</div>')
            case Values(_, formula, rows, check):
                note = f'<span class="note">{escape(check)}</span>' if check else ""
                whole = convert(f"{formula} = {_matrix(rows)}", display="block")
                parts.append(f'<div class="line" tabindex="0">{whole}{note}</div>')
    return PAGE.format(title=escape(title), body="\n".join(parts))


FORMATS: dict[str, Callable[[Sequence[Block]], str]] = {
    "terminal": terminal,
    "latex": latex,
    "markdown": markdown,
    "html": html,
}

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1.05rem/1.55 Georgia, serif; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; }}
sub {{ line-height: 0; }}
h2 {{ font-size: 1.2rem; margin-top: 2rem; }}
.line {{ display: flex; align-items: center; gap: 1.5rem; overflow: auto hidden; padding: 0.3rem 0 0.3rem 1rem; }}
.line math {{ flex: none; width: max-content; margin: 0; }}
.note {{ margin-left: auto; white-space: nowrap; font: 0.85rem/1.2 system-ui, sans-serif; opacity: 0.75; }}
@media print {{ .line {{ overflow: visible; }} body {{ margin: 0; max-width: none; }} }}
</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def _aligned(rows: Sequence[Sequence[float]]) -> list[str]:
    """Each row of numbers as text, the columns under each other."""
    cells = [[f"{value:.4f}" for value in row] for row in rows]
    width = max((len(cell) for row in cells for cell in row), default=0)
    return [f"[ {'  '.join(cell.rjust(width) for cell in row)} ]" for row in cells]


def _matrix(rows: Sequence[Sequence[float]]) -> str:
    if len(rows) == 1 and len(rows[0]) == 1:
        return f"{rows[0][0]:.4f}"
    lines = r" \\ ".join(" & ".join(f"{value:.4f}" for value in row) for row in rows)
    return rf"\begin{{pmatrix}} {lines} \end{{pmatrix}}"


def _html_prose(text: str) -> str:
    """A letter with its index, as in δ_O or W_I, has the index below it."""
    return re.sub(r"(\w)_(\w)\b", r"\1<sub>\2</sub>", escape(text))


def _latex_shape(shape: str) -> str:
    return rf" \qquad \text{{{shape}}}" if shape else ""


# What prose is written with, as LaTeX sets it.
_SIGNS = {
    "δ": r"$\delta$", "∂": r"$\partial$", "∇": r"$\nabla$", "θ": r"$\theta$", "α": r"$\alpha$", "ŷ": r"$\hat y$",
    "′": r"$'$", "⊙": r"$\odot$", "Σ": r"$\Sigma$", "ε": r"$\varepsilon$", "−": r"$-$", "×": r"$\times$",
    "·": r"$\cdot$", "✓": r"$\checkmark$", "✗": r"$\times$", "ᵀ": r"$^\top$", "≤": r"$\le$",
}  # fmt: skip


def _latex_prose(text: str) -> str:
    # A letter with its index, as in δ_O or W_I, becomes one formula.
    text = re.sub(r"([#%&$])", r"\\\1", text)
    text = (
        re.sub(r"(\w)_(\w)\b", lambda found: f"{found[1]}$_{found[2]}$", text).replace("_", r"\_").replace(r"$\_", "$_")
    )
    return "".join(_SIGNS.get(sign, sign) for sign in text)
