"""The verification of all combinations: it passes, and it fails where a derivative is broken."""

import json
from dataclasses import replace

import pytest
from tests.calculus.settings import ACTIVATIONS, FITTING, HIDDEN_ACTIVATIONS, LOSSES

from backhand.calculus import backpropagation as bp
from backhand.calculus import transforms
from backhand.checking import gradcheck, verification
from backhand.checking.matrix import MODES, Combination, combinations, verify
from backhand.errors import UserError

PLAIN = Combination("tanh", "softmax", "cross_entropy")


def test_the_command_knows_the_modes_without_importing_torch():
    assert tuple(MODES) == gradcheck.MODES


def test_the_combinations_cover_both_tables():
    found = {(each.hidden, each.output, each.loss) for each in combinations()}
    assert found == {(g, f, loss) for g in HIDDEN_ACTIVATIONS for f, loss in FITTING}
    assert {name for each in combinations() for name, _ in each.parameters} == {
        name for loss in LOSSES.values() for name in loss.parameters
    }
    assert {each.layers for each in combinations()} == {0, 1, 3}
    assert {each.runs for each in combinations()} == {None, 2}
    assert len(set(map(str, combinations()))) == len(combinations())


@pytest.mark.parametrize("g", HIDDEN_ACTIVATIONS)
def test_every_gradient_is_within_the_limits_of_autograd_and_of_finite_differences(g):
    for combination in combinations():
        if combination.hidden == g:
            result = verify(combination, modes=())
            assert result.error_autograd <= 1e-12, combination
            assert result.error_differences <= 1e-6, combination


@pytest.mark.parametrize("f", ACTIVATIONS)
def test_every_mode_passes(f):
    with_f = [each for each in combinations() if each.output == f]
    for turn, loss in enumerate(sorted({each.variant for each in with_f})):
        chosen = [each for each in with_f if each.variant == loss]
        result = verify(chosen[turn * 5 % len(chosen)])
        assert set(result.modes) == set(MODES)
        assert not result.failures


@pytest.mark.parametrize(
    ("name", "change", "combination"),
    [
        ("tanh", {"derivative": lambda a: 1 - a}, PLAIN),
        ("softmax", {"product": lambda v, a: a * v}, replace(PLAIN, loss="mse")),
        ("gelu", {"derivative": lambda z: 1.0001 * ACTIVATIONS["sigmoid"].value(z)}, replace(PLAIN, hidden="gelu")),
    ],
)
def test_a_broken_derivative_is_found(name, change, combination, monkeypatch):
    assert not verify(combination).failures
    monkeypatch.setitem(ACTIVATIONS, name, replace(ACTIVATIONS[name], **change))
    failures = verify(combination).failures
    assert {"gradients", "reverse"} <= failures.keys()


def test_a_derivative_that_does_not_match_its_value_is_found_by_finite_differences(monkeypatch):
    # Hand and reference agree on a wrong loss only if both are wrong; the differences would not.
    loss = replace(LOSSES["mse"], matched_delta=lambda z, y: 2.0001 * (z - y) / z.shape[-1] / z.shape[-2])
    monkeypatch.setitem(LOSSES, "mse", loss)
    result = verify(Combination("tanh", "identity", "mse"), modes=())
    assert result.error_differences > 1e-5


@pytest.mark.parametrize(
    ("mode", "owner", "attribute", "wrong"),
    [
        ("forward", bp, "tangent", lambda *a: tuple(each * 0.5 for each in _tangent(*a))),
        ("jacobian", bp, "tangent", lambda *a: tuple(each * 0.5 for each in _tangent(*a))),
        ("hessian", bp, "hidden_delta", lambda *a: _hidden_delta(*a).detach()),
        ("second", bp, "hidden_delta", lambda *a: _hidden_delta(*a).detach()),
        ("per_sample", bp, "bias_gradient", lambda delta: 2 * delta.sum(-2)),
        ("autocast", transforms, "_cast", lambda device, tensors: tensors),
        # It reads the values, which a vectorized gradient does not allow.
        ("batched", bp, "weight_gradient", lambda h, delta: h.mT @ delta * float(delta.isfinite().all())),
    ],
)
def test_each_mode_fails_for_a_mistake_in_it(mode, owner, attribute, wrong, monkeypatch):
    combination = replace(PLAIN, hidden="mish")
    assert verify(combination, [mode]).modes == {mode: None}
    monkeypatch.setattr(owner, attribute, wrong)
    assert verify(combination, [mode]).modes[mode] is not None


_tangent, _hidden_delta = bp.tangent, bp.hidden_delta


@pytest.mark.slow
def test_the_results_do_not_depend_on_the_number_of_processes(tmp_path, capsys):
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        assert gradcheck.gradcheck([f"folder={folder}", "only=identity,l1,reverse", f"processes={processes}"]) == 0
        found.append(json.loads((folder / "gradcheck.json").read_text())["combinations"])
        assert (folder / "gradcheck.png").stat().st_size > 10_000
    assert found[0] == found[1]
    assert {each["loss"] for each in found[0]} == {"l1"}
    assert all("identity" in (each["hidden"], each["output"]) for each in found[0])
    assert "all pass" in capsys.readouterr().out


def test_a_failure_is_printed_and_written_and_sets_the_exit_status(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], derivative=lambda a: 1 + a))
    assert gradcheck.gradcheck([f"folder={tmp_path}", "only=tanh,cross_entropy,reverse", "processes=1"]) == 1
    assert "FAIL tanh, softmax, cross_entropy: reverse: gradcheck; " in capsys.readouterr().out
    record = json.loads((tmp_path / "gradcheck.json").read_text())
    assert not record["passes"]
    assert any("reverse" in each["failures"] for each in record["combinations"])


def test_a_wrong_derivative_is_named_in_a_few_lines(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(ACTIVATIONS["tanh"], derivative=lambda a: 1 + a))
    arguments = [f"folder={tmp_path}", "only=tanh,identity,mse,reverse,second", "processes=1"]
    output = {}
    for verbose in ("false", "true"):
        assert gradcheck.gradcheck([*arguments, f"verbose={verbose}"]) == 1
        output[verbose] = capsys.readouterr().out.splitlines()
    failures = json.loads((tmp_path / "gradcheck.json").read_text())["combinations"]
    assert (
        sum(line.startswith("FAIL ") for line in output["true"]) == sum(len(each["failures"]) for each in failures) > 40
    )
    assert {line.split(": ")[1] for line in output["false"] if line.startswith("FAIL ")} == {"gradients", "reverse"}
    assert "tanh is in every combination that fails, and in none that passes" in output["false"]
    assert "verbose=true lists them all" in output["false"]
    assert len(output["false"]) <= 20


def test_files_of_an_earlier_check_are_replaced_and_no_others(tmp_path):
    report = tmp_path / "gradcheck.json"
    for foreign in ("{}", "[1]", "not json", json.dumps({"program": "another"})):
        report.write_text(foreign)
        with pytest.raises(UserError, match="exists and was not written by an earlier check"):
            verification.verify_everything(["tanh", "l1"], tmp_path, 1, 0)
        assert report.read_text() == foreign
    report.write_text(json.dumps({"program": verification.PROGRAM}))
    assert verification.verify_everything(["hardtanh", "l1", "forms"], tmp_path, 1, 0) == 0
    assert json.loads(report.read_text())["passes"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["only=tan"], r"did you mean tanh\?"),
        (["only=tanh,"], "no such choice"),
        (["only=relu,cross_entropy", "folder=/nowhere"], "no such folder"),
        (["processes=0"], "must be above 0"),
        (["seed=many"], "whole number"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments, reason):
    with pytest.raises(UserError, match=reason) as error:
        gradcheck.gradcheck(arguments)
    assert "\n" not in str(error.value)
