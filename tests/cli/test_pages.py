"""Every page of docs/ opens with its three most useful commands, and every measured number with the command for it."""

import ast
import re

import pytest
from tests.cli.conftest import ROOT

DOCS = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
PAGES = DOCS | {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
PROGRAMS = ("python ", "make ", "pip ", "wandb ")

# More words than this need a summary.
LONG = 1000


def opening(page: str) -> str:
    """What stands before a page's first section."""
    return re.split(r"^## ", FENCE.sub(lambda block: block[0].replace("\n## ", "\n"), page), flags=re.M)[0]


def commands(language: str, code: str) -> list[str]:
    """The commands in a block of code, or its Python statements."""
    if language == "python":
        return [ast.unparse(statement) for statement in ast.parse(code).body]
    return [line for line in code.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]


def opening_faults(page: str) -> list[str]:
    """What is wrong with the opening of a page."""
    start = opening(page)
    blocks = FENCE.findall(start)
    found = [] if re.match(r"# .+\n\n(?!```)\S", start) else ["no sentence between the title and the commands"]
    shown = commands(*blocks[0]) if blocks else []
    if len(shown) != 3:
        found.append(f"{len(shown)} commands in the first block, not 3")
    if blocks and blocks[0][0] != "python":
        found += [f"not a command: {line}" for line in shown if not line.startswith(PROGRAMS)]
    return found


def anchor(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def summary_faults(page: str) -> list[str]:
    """What is wrong with the list after "In short:" in the opening of a page."""
    summary = re.search(r"^In short:\n\n((?:- .*\n(?:  .*\n)*)+)", opening(page), re.M)
    if summary is None:
        return ["no list after a line 'In short:'"]
    found = [] if 2 <= len(re.findall("^- ", summary[1], re.M)) <= 6 else ["not 2 to 6 points"]
    sections = re.findall("^## (.*)", FENCE.sub("", page), re.M)
    return found + [f"no link to {each!r}" for each in sections if f"(#{anchor(each)})" not in summary[1]]


@pytest.mark.parametrize("name", DOCS)
def test_a_page_opens_with_its_purpose_and_three_commands(name):
    assert opening_faults(DOCS[name]) == []


@pytest.mark.parametrize("name", [name for name, page in DOCS.items() if len(page.split()) > LONG])
def test_a_long_page_begins_with_a_summary(name):
    assert summary_faults(DOCS[name]) == []


GOOD = """# Title

What it is for.

```
python a.py    # one
make b
python c.py \\
    key=value
```

In short:

- [One](#one): this,
  and that.
- [Two, and more](#two-and-more)

## One

## Two, and more
"""


def test_a_good_opening_has_no_faults():
    assert opening_faults(GOOD) == summary_faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("What it is for.\n\n", ""),
        ("make b\n", ""),
        ("make b\n", "make b\npython d.py\n"),
        ("make b\n", "x = 1\n"),
        ("```\n\nIn short", "```\n\n## First\n\nIn short"),
        ("In short:", "Contents:"),
        ("- [Two, and more](#two-and-more)\n", ""),
        ("## One\n", "## One\n\n## Three\n"),
    ],
)
def test_a_wrong_opening_is_detected(old, new):
    broken = GOOD.replace(old, new)
    assert broken != GOOD
    assert opening_faults(broken) + summary_faults(broken)


# A number with a unit of what is measured. `28 × 28` is a size, and `95 %` of an interval its definition.
UNIT = r"(?:s|ms|µs|seconds?|minutes?|[KMG]i?B)\b|×(?! ?\d)|°|%(?! (?:t-)?interval)"
FIGURE = re.compile(rf"(?<![\w.-])\d[\d,]*(?:\.\d+)? ?(?:{UNIT})")
COMMAND = re.compile(r"\b(?:python (?:-m )?[\w/.]+|make [a-z])")
# Numbers with a unit that nobody measured, and what they are.
NOT_MEASURED = {
    "bad_input.md": {"at most 16 MB": "a limit"},
    "change_a_line.md": {"90°": "a right angle"},
    "check_your_derivation.md": {"2 GB": "a limit"},
    "reliability.md": {"3 seconds": "a limit"},
    "untrusted.md": {"1 MiB": "a limit", "256 MiB": "a limit"},
    "wandb.md": {"2 %": "a definition", "60 seconds": "a limit"},
}


def blocks(section: str) -> list[str]:
    """A section's heading, paragraphs, lists, tables and blocks of code."""
    parts = re.split(r"(^ *```.*?^ *```$)", section, flags=re.M | re.S)
    return [
        block
        for part in parts
        for block in ([part] if part.lstrip().startswith("```") else re.split(r"\n\s*\n", part))
        if block.strip()
    ]


def code_of(block: str) -> str:
    """A block of code, or what stands between backticks."""
    return block if block.lstrip().startswith("```") else " ".join(re.findall(r"`([^`]+)`", block))


def figures_without_a_command(page: str, not_measured: dict[str, str]) -> list[str]:
    """The measured numbers of a page that have no command beside them.

    Beside means in the same block, in the one before or after it, or in the first one of the section.
    """
    for each in not_measured:
        assert each in page, f"{each} is no longer there"
        page = page.replace(each, "")
    page = re.sub(r"^ *```.*?^ *```$", lambda code: code[0].replace("\n#", "\n #"), page, flags=re.M | re.S)
    found = []
    for section in re.split(r"^(?=#+ )", page, flags=re.M):
        parts = blocks(section)
        for number, part in enumerate(parts):
            near = [*parts[1:2], *parts[max(number - 1, 0) : number + 2]]
            if not any(COMMAND.search(code_of(each)) for each in near):
                found += FIGURE.findall(part)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_every_measured_number_stands_beside_its_command(name):
    assert figures_without_a_command(PAGES[name], NOT_MEASURED.get(name, {})) == []


@pytest.mark.parametrize(
    "text", ["It takes 3 s.", "| a | 97.4 % |", "1,024 MB", "1.5 × faster", "an angle of 43°", "4 minutes"]
)
def test_a_number_without_a_command_is_detected(text):
    page = f"# Title\n\nText.\n\n{text}\n\nText.\n\n`python train.py` is further down.\n"
    assert figures_without_a_command(page, {})
    assert not figures_without_a_command(page.replace("Text.\n\n`", "`"), {})
    assert not figures_without_a_command(page, {text: "a limit"})


@pytest.mark.parametrize(
    "text", ["images of 28 × 28", "its 95 % t-interval", "version 2.15", "1e-6", "`python a.py`: 3 s"]
)
def test_other_numbers_need_no_command(text):
    assert not figures_without_a_command(f"# Title\n\nText.\n\n{text}\n", {})
