"""The schema compared with Lightning, the files in conf/ and the data."""

import inspect
import re
from dataclasses import fields

import lightning
import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch.strategies import StrategyRegistry
from omegaconf import OmegaConf

from backhand.calculus.activations import ACTIVATIONS
from backhand.calculus.initialization import INITIALIZATIONS
from backhand.config import CONF
from backhand.config.help import help_text
from backhand.config.schema import AUGMENTATIONS, CHOICES, STRATEGIES, TrainerConfig
from backhand.config.validation import known_info, layer_sizes, parse_config
from backhand.data import augmentation

# Objects that a file cannot hold, or arguments that the train task sets.
NOT_IN_A_FILE = {
    "logger",
    "callbacks",
    "plugins",
    "default_root_dir",
    "enable_progress_bar",
    "enable_checkpointing",
    "enable_autolog_hparams",
    "model_registry",
}


def test_the_schema_has_every_argument_of_lightnings_trainer():
    theirs = set(inspect.signature(lightning.Trainer.__init__).parameters) - {"self"} - NOT_IN_A_FILE
    assert {field.name for field in fields(TrainerConfig)} == theirs


def test_strategies_are_those_of_lightning():
    assert set(STRATEGIES) - {"auto"} < set(StrategyRegistry.available_strategies())


@pytest.mark.parametrize("group", CHOICES)
def test_every_choice_has_a_file_with_its_name(group):
    files = {path.stem: path for path in (CONF / group).glob("*.yaml")}
    assert set(files) == set(CHOICES[group])
    for name, file in files.items():
        assert f"name: {name}\n" in file.read_text()


@pytest.mark.parametrize("group", [path.name for path in sorted(CONF.iterdir()) if path.is_dir()])
def test_every_choice_composes_and_is_valid(group, tmp_path):
    table = tmp_path / "table.csv"
    table.touch()
    needed = {
        "data=table": [f"data.path={table}", "data.target=y"],
        "data=custom": ["data._target_=my.Data", "data.features=3", "data.classes=2"],
        "optimizer=custom": ["optimizer._target_=torch.optim.RMSprop"],
        "scheduler=custom": ["scheduler._target_=torch.optim.lr_scheduler.ConstantLR"],
    }
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for file in sorted((CONF / group).glob("*.yaml")):
            choice = f"{group}={file.stem}"
            parse_config(compose("train", [choice, *needed.get(choice, [])]))


def test_the_schema_has_every_augmentation():
    assert set(AUGMENTATIONS) == set(augmentation.AUGMENTATIONS)


def test_a_data_set_has_defaults_for_output_and_loss(configured):
    config = configured("data=breast_cancer")
    assert (config.model.output_activation, config.model.loss) == ("sigmoid", "binary_cross_entropy")
    assert layer_sizes(config, known_info(config.data)) == [30, 64, 1]
    config = configured("data=breast_cancer", "model.output_activation=softmax", "model.loss=cross_entropy")
    assert layer_sizes(config, known_info(config.data)) == [30, 64, 2]


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.limit_val_batches=0", "objective=train/loss"],
        ["trainer.limit_val_batches=0", "trainer.fast_dev_run=true"],
        ["trainer.limit_val_batches=0", "trainer.overfit_batches=1"],
        ["trainer.check_val_every_n_epoch=30"],
        ["trainer.check_val_every_n_epoch=99", "trainer.max_epochs=-1"],
        ["trainer.check_val_every_n_epoch=99", "trainer.fast_dev_run=2"],
    ],
)
def test_an_objective_with_validation_or_without_need_of_it_is_accepted(configured, overrides):
    configured(*overrides)


def test_a_trainer_argument_can_be_given_with_a_plus(configured):
    assert configured("+trainer.gradient_clip_val=0.5").trainer.gradient_clip_val == 0.5


def test_every_activation_can_be_configured():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train")
    for name, activation in ACTIVATIONS.items():
        if activation.hidden:
            composed.model.hidden_activation = name
            assert parse_config(composed).model.hidden_activation == name


def test_each_hidden_layer_may_have_its_own_activation(configured):
    model = configured("model.hidden=[32,16]", "model.hidden_activation=[relu,tanh]").model
    assert model.hidden_activation == ["relu", "tanh"]


@pytest.fixture
def composed():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield compose("train")


def test_the_defaults_in_the_help_are_those_of_the_default_run(composed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # a description stands below its key
    shown = dict(re.findall(r"^  ([\w.]+)=(.+)$", help_text(composed).partition("\nKEYS")[2], re.M))
    shown |= {f"trainer.{field.name}": shown.pop(field.name) for field in fields(TrainerConfig)}
    ours = [f"{key}={value}" for key, value in shown.items() if OmegaConf.select(composed, key, default=...) is not ...]
    assert len(ours) > 70
    assert OmegaConf.merge(composed, OmegaConf.from_dotlist(ours)) == composed
    assert {"optimizer.momentum=0.9", "optimizer.lr=0.1", "trainer.max_epochs=30"} < set(ours)
    assert (shown["scheduler.every"], shown["optimizer.betas"]) == ("10", "[0.9, 0.999]")  # of other choices


def test_the_help_has_ranges_and_choices(composed):
    text = " ".join(help_text(composed).split())
    for key in (
        "data.test_fraction=0.15 fraction for the test; 0 if the data set has its own test split [≥ 0, < 1]",
        "max_epochs=30 [1 or more, or -1 for no limit]",
        f"model.init=linear how weights are initialised [{', '.join(INITIALIZATIONS)}]",
        "data.missing=refuse data=table: how missing values are filled [refuse, mean, median]",
        "callbacks.early_stopping.patience=10 callbacks=early_stopping: epochs without improvement [≥ 1]",
    ):
        assert f" {key} " in text


def test_the_help_fits_a_narrow_terminal(composed, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    keys = help_text(composed).partition("GROUPS")[2].partition("Flags:")[0]
    assert [line for line in keys.splitlines() if len(line) > 40] == [
        "  model.output_activation=${data.output_activation}"
    ]
    assert "  optimizer.lr=0.1\n      the learning rate α [> 0]\n" in keys
