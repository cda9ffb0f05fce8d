"""Whatever is written as `key=value`, `train.py` takes it or answers in one line.

It is the command itself that runs, in this process, up to where its folder would be made.
"""

import random
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.conftest import FEW, MANY, examples

from backhand.config import CONF
from backhand.config.lock import created_parents, lock_folder
from backhand.config.schema import TrainConfig
from backhand.training import command

HYDRA = [
    "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir", "hydra.job.name", "hydra.job.chdir", "hydra.verbose",
    "hydra.mode", "hydra.output_subdir", "hydra.sweeper.params", "hydra.sweeper.n_trials", "hydra.launcher.max_runs",
    "hydra.job.env_set.A", "hydra.searchpath", "hydra.overrides.task", "hydra.job_logging.root.level",
]  # fmt: skip


def leaves(kind: Any = TrainConfig, prefix: str = "") -> list[str]:
    """Every key of the configuration, `logger.wandb.mode` and `logger.wandb` too."""
    found = []
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        inner = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        found.append(prefix + field.name)
        if inner is not None:
            found += leaves(inner, f"{prefix}{field.name}.")
    return found


KEYS = leaves()
GROUPS = {
    str(folder.relative_to(CONF)): [file.stem for file in folder.glob("*.yaml")]
    for folder in sorted(CONF.rglob("*"))
    if folder.is_dir()
}
NUMBERS = [
    "0",
    "1",
    "-1",
    "0.5",
    "1e-3",
    "1e400",
    "-1e400",
    "nan",
    "inf",
    "-inf",
    "1_000",
    "0x10",
    "9" * 400,
    "-0",
    ".5",
]
WORDS = ["null", "true", "false", "full", "auto", "tanh", "balanced", "???", "''", '""', "a b", "[]", "{}", " ", ""]
INTERPOLATIONS = [
    "${seed}", "${data.name}", "${nowhere}", "${oc.env:NOT_SET}", "${oc.env:HOME}", "${now:%Y}", "${name}", "${model}",
    "${hydra:job.num}", "${hydra.run.dir}", "${no_such:1}", "${oc.decode:'[1'}", "${.x}", "${..seed}", "${objective}",
    "${oc.create:{a:1}}", "${", "$", "\\${seed}", "${oc.select:nowhere,1}", "${data.loss}",
]  # fmt: skip
SWEEPS = ["1,2", "choice(1,2)", "range(3)", "interval(0,1)", "glob(*)", "tag(a,1)", "sort(3,2)", "shuffle(1,2)", "a,b,"]
CASTS = ["int(3.5)", "int(a)", "str([1,2])", "bool(yes)", "float(x)", "json_str({a:1})", "extend_list(1)", "list(1)"]

letters = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
atoms = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(WORDS), st.sampled_from(INTERPOLATIONS), st.sampled_from(SWEEPS),
    st.sampled_from(CASTS), letters, st.integers().map(str), st.floats().map(str),
    letters.map(lambda text: f"'{text}'"), letters.map(lambda text: f'"{text}"'),
)  # fmt: skip
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(st.one_of(st.sampled_from(["a", "name", "1"]), inner), inner), max_size=2).map(
            lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=5,
)
keys = st.one_of(
    st.sampled_from(KEYS),
    st.sampled_from(sorted(GROUPS)),
    st.sampled_from(HYDRA),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["a", "0", "name", "-1"])).map(".".join),
    st.sampled_from(KEYS).map(lambda key: key[:-1]),
    letters,
)
usual = st.sampled_from(
    ["seed=3", "data.batch_size=64", "model.hidden=[8,8]", "optimizer.lr=0.01", "trainer.max_epochs=3", "logger=csv"]
)
likely = st.tuples(st.sampled_from(KEYS), st.sampled_from(["1", "3", "0.5", "true", "a", "[1]", "null"])).map("=".join)
choices = st.sampled_from([f"{group}={choice}" for group, names in GROUPS.items() for choice in names])
assignments = st.one_of(
    choices,
    usual,
    likely,
    st.tuples(st.sampled_from(["", "", "", "+", "++", "~"]), keys, values).map(lambda x: f"{x[0]}{x[1]}={x[2]}"),
    st.tuples(st.sampled_from(["~", "+", ""]), keys).map("".join),
    st.tuples(st.sampled_from(sorted(GROUPS)), st.sampled_from(["@", "@:", "@a", "@data:model"]), values).map(
        lambda x: f"{x[0]}{x[1]}={x[2]}"
    ),
)


def mutated(text: str, seed: int) -> str:
    """One or two signs changed, left out, doubled or put in."""
    draw = random.Random(seed)
    for _ in range(draw.randrange(1, 3)):
        at = draw.randrange(len(text) + 1)
        new = draw.choice(
            ["", "=", ",", "[", "]", "{", "}", ":", "'", '"', "$", ".", "\\", " ", "\n", "\x1b", "é", "~"]
        )
        text = text[:at] + new + text[at + draw.randrange(2) :]
    return text


arguments = st.lists(
    st.one_of(usual, assignments, st.tuples(assignments, st.integers(0, 1 << 30)).map(lambda x: mutated(*x))),
    min_size=1,
    max_size=4,
).map(lambda items: [item for item in items if not item.startswith("-")])


class Accepted(BaseException):
    """Training would begin."""


@pytest.fixture
def answer(monkeypatch, tmp_path):
    """`answer(["seed=-1"])`: the line, or None where training would begin."""

    def check_and_stop(cfg):
        released = []
        monkeypatch.setattr(command, "lock_folder", lambda *where: released.append(lock_folder(*where)) or released[-1])
        check_run(cfg)
        for release in released:
            release()
            folder = Path(cfg.hydra.run.dir)
            folder.rmdir()  # nothing is in it
            for made in created_parents(folder):
                made.rmdir()
        raise Accepted

    check_run = command.check_run
    monkeypatch.setattr(command, "check_run", check_and_stop)
    monkeypatch.chdir(tmp_path)

    def run(overrides: list[str]) -> str | None:
        monkeypatch.setattr(sys, "argv", ["train.py", *overrides])
        with pytest.raises((Accepted, SystemExit)) as ended:
            command.main()
        return None if ended.type is Accepted else ended.value.code

    return run


def check(answer, overrides: list[str]) -> None:
    line = answer(overrides)
    if line is not None:
        assert isinstance(line, str), line
        assert line.startswith("train.py: ")
        assert line.isprintable(), line
        assert len(line) < 3000
    assert not list(Path().iterdir())


@pytest.mark.slow
def test_any_override_is_taken_or_refused_in_one_line(answer):
    examples(FEW)(given(arguments)(lambda overrides: check(answer, overrides)))()


@pytest.mark.stress
def test_any_of_many_overrides_is_taken_or_refused_in_one_line(answer):
    examples(MANY)(given(arguments)(lambda overrides: check(answer, overrides)))()
