"""Training with another backward pass: its results, its measurements, and that no stale result is used."""

import json
from pathlib import Path

import pytest
import torch
from tests.suites import smoke
from tests.training.test_train import result, rows, weights

from backhand.calculus.feedback import RULES
from backhand.config import CONF
from backhand.errors import UserError
from backhand.reporting import result as results
from backhand.reporting.result import backward_pass, config_hash
from backhand.training.evaluation import read_module
from backhand.training.module import LightningMLP

OWN = str(CONF.parent / "examples" / "feedback_alignment.py") + ":hidden_delta"
SHORT = (
    "callbacks=default",
    "callbacks.progress_bar=false",
    "trainer.max_epochs=2",
    "model.hidden=[8,6]",
    "callbacks.audit.every=10",
)


def given(rule: str) -> tuple[str, ...]:
    flat = rule in RULES and RULES[rule].flat
    return (f"model.gradient={rule}", *(("model.hidden_activation=sign",) if flat else ()), *SHORT)


def test_a_function_in_a_file_is_the_built_in_rule_bit_for_bit(trained):
    own, built_in = (weights(trained(*given(rule))) for rule in (OWN, "feedback_alignment"))
    assert "model.feedback.1.B" in own
    for name, value in built_in.items():
        assert torch.equal(value, own[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("rule", smoke(RULES, "kolen_pollack"))
def test_a_compiled_step_trains_like_an_eager_one(trained, rule):
    shared = ("trainer.precision=64-true", "trainer.max_epochs=1", "trainer.limit_train_batches=10")
    compiled, ordinary = (weights(trained(*given(rule), *shared, f"compile={on}")) for on in ("true", "false"))
    for name, value in ordinary.items():
        assert (value - compiled[name]).abs().max() <= 1e-9 * value.abs().max(), name


def test_the_audit_measures_where_it_cannot_judge(trained):
    folder = trained(*given("feedback_alignment"))
    last, known = rows(folder)[-1], result(folder)
    assert {name for name in last if name.startswith(("alignment/", "norm_ratio/"))} == {
        "alignment/hidden_0", "alignment/hidden_1", "alignment/layers.0.weight", "alignment/layers.0.bias",
        "alignment/layers.1.weight", "alignment/layers.1.bias", "alignment/feedback.0.B", "alignment/feedback.1.B",
        "norm_ratio/feedback.0.B", "norm_ratio/feedback.1.B",
    }  # fmt: skip
    assert not [name for name in last if name.startswith("audit/")]
    assert known["status"] == "finished"
    assert known["audit"]["times"] == 8
    assert 20 < known["audit"]["angle"] < 100


def test_the_angle_of_backpropagation_itself_is_zero(trained, tmp_path):
    (tmp_path / "mine.py").write_text("def same(delta, W, slope, layer):\n    return (delta @ W.mT) * slope\n")
    known = result(trained(f"model.gradient={tmp_path / 'mine.py'}:same", *SHORT))
    assert known["audit"]["angle"] < 1e-5


def test_an_evaluation_runs_no_rule(trained):
    folder = trained(*given(OWN))
    checkpoint = folder / "checkpoints" / "best.ckpt"
    contents = torch.load(checkpoint, weights_only=True)
    contents["hyper_parameters"]["gradient"] = "not_there.py:anything"
    torch.save(contents, checkpoint)
    assert read_module(checkpoint).model.network.rule is None


def test_the_hash_is_of_the_code_and_not_of_its_comments(configured, tmp_path, monkeypatch):
    own = tmp_path / "mine.py"

    def hash_of(text: str) -> tuple[str, str]:
        own.write_text(text)
        results._code.cache_clear()
        config = configured(f"model.gradient={own}:same")
        return config_hash(config), backward_pass(config)

    first = hash_of("def same(delta, W, slope, layer):\n    return (delta @ W.mT) * slope\n")
    told = '"""A file."""\n\n\ndef same(delta, W, slope, layer):\n    """Same."""\n    # as it was\n\n'
    told += "    return (delta @ W.mT) * slope\n"
    assert hash_of(told) == first
    assert hash_of("def same(delta, W, slope, layer):\n    return (delta @ W.mT) * slope * 2\n") != first
    (edited := tmp_path / "calculus").mkdir()
    for file in Path(results.CALCULUS).glob("*.py"):
        (edited / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(results, "CALCULUS", edited)
    config = configured()
    assert config_hash(config) != first[0]
    before = config_hash(config)
    derivation = (edited / "backpropagation.py").read_text()
    (edited / "backpropagation.py").write_text(derivation.replace("delta.sum(-2)", "delta.mean(-2)"))
    results._code.cache_clear()
    assert config_hash(configured()) != before


def test_result_and_checkpoint_say_which_code_it_was(trained, configured):
    folder = trained(*SHORT)
    config = configured(*SHORT)
    contents = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert result(folder)["backward_pass"] == contents["own_folder"]["backward_pass"] == backward_pass(config)
    assert json.loads((folder / "result.json").read_text())["config_hash"] == contents["own_folder"]["config_hash"]


def test_the_angle_is_that_of_the_scaled_step(trained, tmp_path):
    # Clamped at 1e-3, δ differs if the loss is divided by the number of accumulated batches.
    clamp = "def quiet(delta, W, slope, layer):\n    return ((delta @ W.mT) * slope).clamp(-{}, {})\n"
    angles = []
    for limit, more in ((1e-3, ("trainer.accumulate_grad_batches=4",)), (4e-3, ())):
        (tmp_path / f"clamp{limit}.py").write_text(clamp.format(limit, limit))
        shared = (*SHORT, "trainer.max_steps=1", "trainer.precision=64-true")
        folder = trained(f"model.gradient={tmp_path}/clamp{limit}.py:quiet", *shared, *more)
        angles.append(result(folder)["audit"]["angle"])
    assert angles[0] == pytest.approx(angles[1], rel=1e-9)
    assert angles[0] > 0.1


def test_what_a_rule_trains_does_not_count_in_the_norm_that_is_clipped(trained, tmp_path):
    ignored = "def mine(delta, W, slope, layer):\n    layer.trained('B', like=W)\n    return (delta @ W.mT) * slope\n"
    (tmp_path / "mine.py").write_text(ignored)
    shared = (*SHORT, "trainer.gradient_clip_val=0.1", "trainer.precision=64-true")
    ours, theirs = (
        weights(trained(f"model.gradient={each}", *shared)) for each in (f"{tmp_path}/mine.py:mine", "hand")
    )
    for name, value in theirs.items():
        assert (ours[name] - value).abs().max() < 1e-12, name


def test_an_audit_takes_no_random_number_of_the_run(trained, tmp_path):
    drawn = "import torch\n\n\ndef mine(delta, W, slope, layer):\n    return (delta @ torch.randn_like(W).mT) * slope\n"
    (tmp_path / "mine.py").write_text(drawn)
    found = [
        weights(trained(f"model.gradient={tmp_path}/mine.py:mine", *SHORT, f"callbacks.audit.every={n}"))
        for n in (1, 50)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[1])


def test_two_files_may_have_the_same_name(trained, tmp_path):
    for folder, factor in (("a", 1), ("b", 0.5)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rule.py").write_text(f"def mine(d, W, s, layer):\n    return {factor} * (d @ W.mT) * s\n")
    first, second = (weights(trained(f"model.gradient={tmp_path}/{each}/rule.py:mine", *SHORT)) for each in "ab")
    assert any(not torch.equal(first[name], value) for name, value in second.items())


def test_a_function_is_for_mlp_and_a_name_for_the_lightning_module():
    with pytest.raises(UserError, match=r"must be a name or FILE\.py:NAME, so that a checkpoint can store it"):
        LightningMLP([3, 4, 2], gradient=lambda delta, W, slope, layer: slope)


@pytest.mark.parametrize("rule", ["sign_symmetry", "hand"])
def test_the_log_names_the_rule_and_its_source_and_warns_of_a_layer_that_stops_the_gradient(trained, caplog, rule):
    caplog.set_level("INFO", "backhand")
    flat = () if rule in RULES else ("model.hidden_activation=sign",)
    trained(f"model.gradient={rule}", *flat, *SHORT, "trainer.max_steps=1")
    entry = RULES.get(rule)
    told = f"{rule}: {entry.text} ({entry.source})" if entry else "sign has the derivative 0, so no gradient passes it"
    assert told in caplog.text
