"""Make docs/tutorial.ipynb from docs/tutorial.md: `python docs/make_notebook.py`. A test compares the two."""

import re
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).parent
# The tutorial's commands run in the project's folder, but Jupyter starts in the notebook's.
FIRST = "%cd -q .."


def notebook(page: str) -> nbformat.NotebookNode:
    """The page's text and its Python blocks as cells, in their order."""
    cells = [new_code_cell(FIRST, id="cell-0")]
    for number, part in enumerate(re.split(r"^(```python\n.*?^```)$", page, flags=re.M | re.S), start=1):
        code = re.fullmatch(r"```python\n(.*)\n```", part, re.S)
        if part.strip():
            make, text = (new_code_cell, code[1]) if code else (new_markdown_cell, part.strip())
            cells.append(make(text, id=f"cell-{number}"))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


if __name__ == "__main__":
    nbformat.write(notebook((HERE / "tutorial.md").read_text(encoding="utf-8")), HERE / "tutorial.ipynb")
