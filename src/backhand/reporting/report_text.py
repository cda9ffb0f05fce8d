"""The report on the terminal: the page's numbers and tables, without its pictures."""

from dataclasses import replace

from rich import table as rich
from rich.console import Console
from rich.text import Text

from backhand.reporting.charts import Cell, Chart, Table
from backhand.reporting.page import SIGNS, Block, Gallery, Link, Listing, Page

MOST_ROWS = 40
FEW_ROWS = 12  # of the table that stands for a chart


def print_page(page: Page) -> None:
    """Print it. Whatever is from outside is a Text, for brackets in it are no markup."""
    console = Console(highlight=False)
    console.print(Text(page.title, style="bold"))
    console.print(Text(page.subtitle))
    console.print(Text("   ".join(f"{SIGNS.get(status, '?')} {count} {status}" for status, count in page.statuses)))
    if page.tiles:
        tiles = [[Cell(tile.label), Cell(tile.value, 0), Cell(tile.note)] for tile in page.tiles]
        console.print(_grid(Table("", ["", "", ""], tiles)))
    if page.gaps:
        console.print(Text("\nWhat is missing here", style="bold"))
        for gap in page.gaps:
            console.print(Text(f"- {gap}"))
    for section in page.sections:
        console.print(Text(f"\n{section.title}", style="bold"))
        for block in section.blocks:
            _print(console, block)


def _print(console: Console, block: Block) -> None:
    match block:
        case Table():
            _print_table(console, block)
        case Chart():
            if block.table is not None:
                _print_table(console, replace(block.table, rows=_some(block.table.rows)))
        case Gallery():
            pictures = [] if block.small else block.pictures
            console.print(
                Text("; ".join(", ".join(picture.lines) for picture in pictures) or "(pictures: format=html)")
            )
        case Listing():
            for line in block.lines:
                console.print(Text(f"- {line}"))
        case Link():
            console.print(Text(block.text))


def _print_table(console: Console, table: Table) -> None:
    """As a table, or a paragraph a row where that is wider than the terminal."""
    rows = table.rows[:MOST_ROWS]
    console.print(Text(table.caption))
    grid = _grid(replace(table, rows=rows))
    if console.measure(grid, options=console.options.update(max_width=10_000)).maximum <= console.width:
        console.print(grid)
    else:
        for row in rows:
            told = (
                f"{head} {each.text}".strip()
                for head, each in zip(table.columns[1:], row[1:], strict=True)
                if each.text
            )
            console.print(Text(f"{table.columns[0]} {row[0].text}: ".lstrip() + ", ".join(told).strip()))
    if len(rows) < len(table.rows):
        console.print(Text(f"and {len(table.rows) - len(rows)} rows more: format=html"))


def _some(rows: list[list[Cell]]) -> list[list[Cell]]:
    """Rows at even distances, the first and the last among them."""
    if len(rows) <= FEW_ROWS:
        return rows
    return [rows[round(place * (len(rows) - 1) / (FEW_ROWS - 1))] for place in range(FEW_ROWS)]


def _grid(table: Table) -> rich.Table:
    grid = rich.Table(show_header=any(table.columns))
    for place, column in enumerate(table.columns):
        right = place in table.numeric and place > 0
        grid.add_column(Text(column), justify="right" if right else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(each.text) for each in row))
    return grid
