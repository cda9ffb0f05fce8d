"""A short mathematical document: headings, prose, equations and matrices, as terminal text, LaTeX, Markdown or HTML."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO

from latex2mathml.converter import convert
from rich.console import Console
from rich.padding import Padding
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
    """An equation, or a name, as plain text and in LaTeX, with its value.

    Attributes:
        text, latex: the equation, or a name, which is printed in one line with its value.
        shape: the shape of its left side.
        reason: why it holds.
        rows: the value, the rows of a matrix.
    """

    text: str
    latex: str
    shape: str = ""
    reason: str = ""
    rows: tuple[tuple[float, ...], ...] = ()

    @property
    def is_name(self) -> bool:
        return bool(self.rows) and " = " not in self.text


Block = Heading | Prose | Equation


def terminal(blocks: Sequence[Block], width: int | None = None, colour: bool = False) -> str:
    """Text for a terminal of `width` columns; None for the width of the current terminal."""
    console = Console(file=StringIO(), width=width, force_terminal=colour, highlight=False)
    for block in blocks:
        match block:
            case Heading(text, level):
                console.print(Text(f"\n{text}" if level > 1 else text, style="bold"))
            case Prose(text):
                console.print(Text(text))
            case Equation(text, _, shape, reason, rows):
                if reason:
                    console.print(Padding(Text(f"{reason}:", style="dim"), (0, 0, 0, 2)))
                lines = _aligned(rows)
                width = console.width - 4 - Text(f"{text}  {shape}").cell_len
                if block.is_name and len(lines[0]) + 2 <= width:
                    grid = Table.grid(padding=(0, 1))
                    grid.add_column(min_width=3)
                    grid.add_row("", Text(f"{text} ="), Text("\n".join(lines)), Text(shape, style="dim"))
                    console.print(grid)
                    continue
                left, *right = [text] if width >= 0 else _sides(text)
                console.print(Padding(Text(left).append(f"  {shape}", style="dim"), (0, 0, 0, 4)))
                for side in right:
                    console.print(Padding(Text(side), (0, 0, 0, 6)))
                for i, line in enumerate(lines):
                    console.print(Text(f"      {' ' if i else '='} {line}"))
    file = console.file
    assert isinstance(file, StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _sides(text: str) -> list[str]:
    """The lines of an equation that is too long for one: it is broken before an equals sign, and before `with`."""
    equation, *meaning = re.split("(?<=,) (?=with )", text)
    left, *right = equation.split(" = ")
    return [left, *(f"= {side}" for side in right), *meaning]


def markdown(blocks: Sequence[Block]) -> str:
    """Markdown with formulas between dollar signs."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"{'#' * level} {text}")
            case Prose(text):
                parts.append(text)
            case Equation(_, _, _, reason):
                parts += [f"{reason}:"] * bool(reason)
                parts.append(f"$$ {_display_math(block)} $$")
    return "\n\n".join(parts) + "\n"


def latex(blocks: Sequence[Block]) -> str:
    """A complete LaTeX article, for any engine that reads UTF-8."""
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
            case Equation(_, _, _, reason):
                parts += [_latex_prose(f"{reason}:")] * bool(reason)
                parts.append(rf"\[ {_display_math(block)} \]")
    return "\n".join([*parts, r"\end{document}"]) + "\n"


def html(blocks: Sequence[Block]) -> str:
    """One HTML page with MathML, without scripts and external files."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    parts = []
    for block in blocks:
        match block:
            case Heading(text, level):
                parts.append(f"<h{level}>{_html_prose(text)}</h{level}>")
            case Prose(text):
                parts.append(f"<p>{_html_prose(text)}</p>")
            case Equation(_, formula, shape, reason, rows):
                # latex2mathml does not align two lines, so each line is a formula.
                lines = [f"{formula} = {_matrix(rows)}"] if block.is_name else [formula]
                lines += [f"= {_matrix(rows)}"] * (bool(rows) and not block.is_name)
                note = f'<span class="note">{_html_prose(shape)}</span>' if shape else ""
                parts += [f'<p class="reason">{_html_prose(reason)}:</p>'] * bool(reason)
                for line in lines:
                    number = " number" * (line is not lines[0])
                    parts.append(f'<div class="line{number}" tabindex="0">{convert(line, display="block")}{note}</div>')
                    note = ""
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
.line {{ display: flex; flex-wrap: wrap; align-items: center; gap: 0 1.5rem; overflow: auto hidden; }}
.line {{ padding: 0.3rem 0 0.3rem 1rem; }}
.line math {{ flex: none; width: max-content; margin: 0; }}
math {{ font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", "DejaVu Math TeX Gyre", math; }}
.reason {{ margin: 1rem 0 0; font-size: 0.95rem; opacity: 0.85; }}
.number {{ padding-left: 2.5rem; }}
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


def number(value: float) -> str:
    """Four decimals, or two digits and a power of ten below 5e-4; never a negative zero."""
    if value and abs(value) < 5e-4:
        return f"{value:.1e}"
    return f"{value + 0.0:.4f}"


def _aligned(rows: Sequence[Sequence[float]]) -> list[str]:
    """Each row of numbers as text, with aligned columns."""
    entries = [[number(value) for value in row] for row in rows]
    width = max((len(entry) for row in entries for entry in row), default=0)
    return [f"[ {'  '.join(entry.rjust(width) for entry in row)} ]" for row in entries]


def _matrix(rows: Sequence[Sequence[float]]) -> str:
    entries = [[re.sub(r"e([+-])0*(\d+)", r" \\cdot 10^{\1\2}", number(value)) for value in row] for row in rows]
    if len(rows) == 1 and len(rows[0]) == 1:
        return entries[0][0]
    lines = r" \\ ".join(" & ".join(row) for row in entries)
    return rf"\begin{{pmatrix}} {lines} \end{{pmatrix}}"


def _display_math(block: Equation) -> str:
    """An equation in LaTeX, with its value on the next line."""
    shape = rf" \qquad \text{{{_latex_prose(block.shape)}}}" if block.shape else ""
    if block.is_name:
        return f"{block.latex} = {_matrix(block.rows)}{shape}"
    if not block.rows:
        return f"{block.latex}{shape}"
    left, _, right = block.latex.partition(" = ")
    return rf"\begin{{aligned}} {left} &= {right}{shape} \\ &= {_matrix(block.rows)} \end{{aligned}}"


# A letter with its index, as in δ_O, W_I or z_10.
_INDEXED = r"(?<![\w′])(\w)_([A-Z]|\d+)(?!\w)"


def _html_prose(text: str) -> str:
    return re.sub(_INDEXED, r"\1<sub>\2</sub>", escape(text))


# The signs in prose, in LaTeX.
_SIGNS = {
    "δ": r"$\delta$", "∂": r"$\partial$", "∇": r"$\nabla$", "θ": r"$\theta$", "α": r"$\alpha$", "ŷ": r"$\hat y$",
    "′": r"$'$", "⊙": r"$\odot$", "Σ": r"$\Sigma$", "ε": r"$\varepsilon$", "−": r"$-$", "×": r"$\times$",
    "·": r"$\cdot$", "ᵀ": r"$^\top$", "≤": r"$\le$", "←": r"$\leftarrow$",
}  # fmt: skip


def _latex_prose(text: str) -> str:
    text = re.sub(r"([#%&$])", r"\\\1", text)
    text = re.sub(_INDEXED, lambda found: f"{found[1]}$_{{{found[2]}}}$", text)
    text = text.replace("_", r"\_").replace(r"$\_", "$_")
    return "".join(_SIGNS.get(sign, sign) for sign in text)
