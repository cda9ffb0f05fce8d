"""Every command of README.md, CONTRIBUTING.md and docs/ is accepted, and those of the README are run."""

import csv
import inspect
import re
import shlex
import shutil

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from tests.cli.conftest import ROOT
from tests.cli.test_pages import anchor

from backhand.calculus.functions import Prediction
from backhand.config import CONF
from backhand.config.command import check_command_line
from backhand.config.validation import parse_config

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What stands for something of the reader's own.
PLACEHOLDER = re.compile("…|my_|my.csv|houses|visits|DATE|-01-31")


def commands(text: str) -> list[list[str]]:
    """The commands in a page's blocks and between its backticks, without comments."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.M | re.S)
    inline = re.findall(r"`(python [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [
        shlex.split(line, comments=True) for line in [*lines, *inline] if re.match(r"\s*python \w+(/\w+)?\.py", line)
    ]


def documented(pages, scripts):
    """The commands of some scripts in these pages, as parameters."""
    found = {shlex.join(command[1:]) for page in pages for command in commands(page.read_text(encoding="utf-8"))}
    return sorted(line for line in found if re.match(rf"({scripts})\.py", line))


def first_value(override: Override) -> str:
    """The override with the first of a sweep's values, which a single run can have."""
    if override.is_interval_sweep():
        return f"{override.key_or_group}={override.value().start}"
    if override.is_sweep_override():
        return f"{override.key_or_group}={next(override.sweep_string_iterator())}"
    return override.input_line


@pytest.mark.parametrize("line", [line for line in documented(PAGES, "train") if not PLACEHOLDER.search(line)])
def test_every_training_command_is_a_configuration(line):
    _, *arguments = shlex.split(line)
    check_command_line(arguments)
    settings = [each for each in arguments if "=" in each and not re.match("(hydra|search|ckpt_path)[./=]", each)]
    overrides = OverridesParser.create().parse_overrides(settings)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parse_config(compose("train", [first_value(each) for each in overrides]))


@pytest.mark.parametrize("line", documented(PAGES, r"scripts/\w+|benchmarks/\w+"))
def test_every_other_command_is_known_to_its_help(line, command):
    script, *arguments = shlex.split(line)
    usage = command(script, "--help").stdout
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        assert not equals or f"{key}=" in usage or f"{key.partition('.')[0]}." in usage
        assert not key.startswith("--") or key in usage


# What makes a command of the README short.
SHORT = ["trainer.max_epochs=1", "logger=none", "report=false"]


@pytest.fixture
def reader(tmp_path, command):
    """A folder with what the README's commands need: the examples, a table, and a run."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    with (tmp_path / "my.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("size", "rooms", "price"), *((n % 13, n % 5, n % 13 + n % 5) for n in range(80))])
    return command


@pytest.mark.slow
@pytest.mark.parametrize("line", documented(PAGES[:1], r"train|scripts/\w+"))
def test_every_command_of_the_readme_runs(line, reader):
    script, *arguments = shlex.split(line)
    if "DATE" in line:
        assert reader("train.py", *SHORT, "hydra.run.dir=outputs/DATE/TIME").returncode == 0
    if script == "train.py":
        arguments = [re.sub("n_trials=.*", "n_trials=2", each) for each in arguments] + SHORT * ("--help" not in line)
    elif script == "scripts/gradcheck.py" and not arguments:
        arguments = ["only=tanh,mse"]
    ran = reader(script, *arguments)
    if "trainer=gpu" in line and ran.returncode:
        assert re.fullmatch(r"train\.py: .*(GPU|CUDA|cuda|gpu).*\n", ran.stderr)
    else:
        assert ran.returncode == ("wrong_factor" in line), ran.stderr


def test_the_readme_is_short_and_shows_the_function_as_it_is_in_the_source():
    assert len(README.split()) <= 900
    assert inspect.getsource(Prediction) in README


def headings(page):
    """The anchors of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return {anchor(line) for line in re.findall("^#+ (.*)", text, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_it(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not heading or heading in headings(file), target


def test_the_start_page_names_every_page():
    start = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(f"({page.name})" in start for page in PAGES[2:] if page.name != "index.md")
