"""Every mistake is found in every convention: the same network as people of eight schools write it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from tests.derivations.asked import asked
from tests.derivations.conventions import CONVENTIONS, HARMLESS, SAID

# For the quick run, another mistake in each of some conventions; the slow run has all in all.
ONE = {
    "rows, a dict": "g' at h",
    "columns, a cache": "keepdims forgotten, O",
    "torch, (out, in)": "db_I averaged",
    "params, with the loss": "penalty doubled",
}
# What only some programs can have: those for a batch, with a penalty, with biases as columns, with a memory.
RARE = {
    *("mean missing", "mean missing in dW_O", "db_O not summed", "db_I not summed", "db_O over the units"),
    *("bias penalised", "penalty doubled", "penalty forgotten"),
    *("keepdims forgotten, O", "keepdims forgotten, I"),
    *("stale h in dW_O", "stale z in g'"),
}
NETWORKS = [(name, net) for name, convention in CONVENTIONS.items() for net in convention.nets]
# Those where the products fit only if all layers have one unit, or equally many.
EQUAL = [("rows, a dict", "regression"), ("one column, nablas", "squares"), ("steps in place", "squares")]


@dataclass
class Asked:
    """What came of one program: whether a mistake was expected, the exit status, and the headline."""

    convention: str
    net: str
    mistake: str
    wrong: bool
    status: int
    headline: str

    @property
    def judged(self) -> bool:
        return self.status == int(self.wrong)

    @property
    def named(self) -> bool:
        """Whether this mistake is named, and no other one beside it."""
        return bool(re.search(SAID[self.mistake], self.headline)) and not re.search(r"; and \d+ more", self.headline)

    def __str__(self) -> str:
        return f"{self.convention}, {self.net}: {self.mistake or 'right'}: exit status {self.status}: {self.headline}"


def ask(capsys, tmp_path, name: str, net: str, mistake: str = "", *, sizes: bool = True) -> Asked:
    convention = CONVENTIONS[name]
    path = tmp_path / "net.py"
    path.write_text(convention.program(net, mistake))
    told = [each for each in convention.arguments(net, mistake) if sizes or not each.startswith("sizes=")]
    status, printed = asked(capsys, f"target={path}:{convention.target}", *told)
    said = re.search(r"((Right|Wrong).*?) g \w+, f \w+, L ", printed)
    wrong = mistake not in ("", HARMLESS) and not convention.is_custom(net, mistake)
    return Asked(name, net, mistake, wrong, status, said[1] if said else printed)


def table(answers: Iterable[Asked]) -> str:
    """By mistake and convention, how many were asked, judged wrong and named; ✓ where it is right for another loss."""
    counts: dict[tuple[str, str], list[int]] = {}
    for each in answers:
        of_pair = counts.setdefault((each.mistake, each.convention), [0, 0, 0])
        for place, count in enumerate((True, each.status == 1, each.wrong and each.named)):
            of_pair[place] += count
    lines = ["asked/wrong/named".ljust(30) + " ".join(name.rjust(23) for name in CONVENTIONS)]
    for mistake in SAID:
        found = [counts.get((mistake, name)) for name in CONVENTIONS]
        said = (
            "" if each is None else f"{each[0]}/{each[1]}/{each[2]}" if each[1] else f"{each[0]} ✓" for each in found
        )
        lines.append(mistake.ljust(30) + " ".join(each.rjust(23) for each in said))
    return "\n".join(lines)


@pytest.mark.parametrize("name", ONE)
def test_a_mistake_is_named_in_its_convention(capsys, tmp_path, name):
    net = CONVENTIONS[name].nets[0]
    assert ask(capsys, tmp_path, name, net).status == 0
    answer = ask(capsys, tmp_path, name, net, ONE[name])
    assert answer.status == 1, answer
    assert answer.named, answer


@pytest.mark.slow
@pytest.mark.parametrize(("name", "net"), NETWORKS)
def test_a_right_program_is_never_accused(capsys, tmp_path, name, net):
    for way in ("", HARMLESS) if CONVENTIONS[name].harmless else ("",):
        answer = ask(capsys, tmp_path, name, net, way)
        assert answer.status == 0, answer


@pytest.mark.slow
@pytest.mark.parametrize(
    "networks", [pytest.param(NETWORKS[:1], id="one"), pytest.param(NETWORKS, id="all", marks=pytest.mark.stress)]
)
def test_each_mistake_is_found_in_each_convention(capsys, tmp_path, networks):
    answers = [
        ask(capsys, tmp_path, name, net, mistake)
        for name, net in networks
        for mistake in CONVENTIONS[name].changes(net)
    ]
    missed = [each for each in answers if each.judged and each.wrong and not each.named]
    print(table(answers), *missed, sep="\n")
    assert not [str(each) for each in answers if not each.judged]
    wrong = sum(each.wrong for each in answers)
    assert wrong >= 25 * len(networks)
    assert len(missed) <= 0.05 * wrong, [str(each) for each in missed]


def test_each_mistake_stands_in_six_conventions():
    written = {
        mistake: {name for name, net in NETWORKS if mistake in CONVENTIONS[name].changes(net)} for mistake in SAID
    }
    rare = {mistake for mistake, names in written.items() if len(names) < 6}
    assert all(written.values())
    assert rare == RARE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "net"), [pytest.param(*each, marks=[pytest.mark.stress] * (each not in EQUAL)) for each in NETWORKS]
)
def test_a_program_that_needs_equal_sizes_is_not_called_right(capsys, tmp_path, name, net):
    # Nobody says which sizes fit a product that is wrong.
    answers = [ask(capsys, tmp_path, name, net, each, sizes=False) for each in sorted(CONVENTIONS[name].square)]
    assert not [str(each) for each in answers if each.status == 0]
