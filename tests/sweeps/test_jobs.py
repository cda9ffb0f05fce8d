"""The jobs of a sweep, their grouping into populations, and the distributions of a search."""

from dataclasses import asdict
from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from backhand.config import CONF
from backhand.config.confidential import leaves
from backhand.config.schema import CHOICES
from backhand.errors import UserError
from backhand.reporting.result import settings_without
from backhand.sweeps.grid import combinations
from backhand.sweeps.groups import divided, obstacle
from backhand.sweeps.jobs import PER_RUN, Composer
from backhand.sweeps.search import distribution


@pytest.fixture
def composer():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("train", ["hydra.sweep.dir=/nowhere"], run_mode=RunMode.MULTIRUN)
        yield Composer(SimpleNamespace(config_loader=loader), config)


@pytest.mark.parametrize(
    "overrides",
    [
        ["seed=3"],
        ["optimizer.lr=0.5", "optimizer=adam", "seed=1"],
        ["optimizer.lr=1e-3", "optimizer.lr=2e-3"],
        ["name=a b", "tags=[x,y]", "model.init=xavier"],
        ["optimizer={lr: 0.7}", "optimizer.lr=0.2"],
        ["optimizer=adamw", "optimizer.betas=[0.8,0.9]", "data=wine", "trainer.precision=64-true"],
        ["optimizer.lr=${optimizer.weight_decay}", "optimizer.weight_decay=0.1", "hydra.sweep.subdir=elsewhere"],
        ["seed=1", "hydra.job.config.override_dirname.exclude_keys=[seed]", "optimizer.lr=0.5", "data=wine"],
        ["seed=1", "data=wine", "hydra.job.config.override_dirname.kv_sep=:"],
        ["experiment=gradient_descent", "optimizer.momentum=0.5"],
    ],
)
def test_a_job_is_composed_as_hydra_composes_it(composer, overrides):
    theirs = composer.loader.load_sweep_config(composer.config, overrides)
    theirs.hydra.job.num, theirs.hydra.job.id = 7, "7"
    for _ in range(2):  # the second time from the configuration that the first and another job used
        assert OmegaConf.to_container(composer.compose(7, overrides)) == OmegaConf.to_container(theirs)
        composer.job(8, ["seed=5", "name=another"])


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (["optimizer=custom", "optimizer._target_=torch.optim.SparseAdam"], "the first step of SparseAdam fails"),
        (["logger.mine._target_=lightning.pytorch.loggers.Nothing"], "must be the name of a subclass"),
        (
            ["callbacks.mine._target_=lightning.pytorch.callbacks.Timer", "callbacks.mine.wrong=1"],
            "callbacks.mine.wrong: no such argument",
        ),
    ],
)
def test_a_part_of_the_users_own_is_tested_before_the_first_job_runs(composer, part, reason):
    composer.job(0, ["seed=1"])
    with pytest.raises(UserError, match=f"job 1 .*{reason}"):
        composer.job(1, part)


def test_a_value_of_one_job_does_not_reach_another(composer):
    first = composer.job(0, ["optimizer.lr=0.5", "seed=7"])
    second = composer.job(1, ["seed=8"])
    assert (first.config.optimizer.lr, second.config.optimizer.lr) == (0.5, 0.1)
    assert (first.config.seed, second.config.seed) == (7, 8)
    assert (first.folder.name, second.folder.name) == ("0", "1")
    assert (first.cfg.optimizer.lr, first.cfg.seed, first.cfg.hydra.job.num) == (0.5, 7, 0)
    assert (second.cfg.optimizer.lr, second.cfg.seed, second.cfg.hydra.job.num) == (0.1, 8, 1)


def test_jobs_that_differ_in_per_run_settings_are_composed_once(composer, monkeypatch):
    composed = []
    original = composer.loader.load_sweep_config
    monkeypatch.setattr(composer.loader, "load_sweep_config", lambda *args: composed.append(args) or original(*args))
    jobs = [composer.job(n, [f"seed={n}", f"optimizer.lr={1 / (n + 1)}", "optimizer=adam"]) for n in range(20)]
    assert len(composed) == 1
    assert [(job.config.seed, job.config.optimizer.lr) for job in jobs] == [(n, 1 / (n + 1)) for n in range(20)]
    assert len({job.hash for job in jobs}) == 20


def test_a_value_may_refer_to_another_value_of_its_job(composer):
    for number, lr in enumerate((0.5, 0.25)):
        job = composer.job(number, ["scheduler=plateau", "scheduler.min_lr=${optimizer.lr}", f"optimizer.lr={lr}"])
        assert job.config.scheduler.min_lr == lr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=-1", r"job 4 \(optimizer.lr=-1\): optimizer.lr=-1.0: must be above 0"),
        ("seed=x", r"job 4 \(seed=x\): seed=x: must be a whole number"),
        ("model.init=xavir", r"job 4 .*did you mean xavier"),
        ("seed=null", r"job 4 \(seed=null\): seed=null: needs a value"),
        ("nothing=1", r"job 4 \(nothing=1\): nothing: no such key"),
    ],
)
def test_a_wrong_job_is_named_in_the_message(composer, override, message):
    for _ in range(2):
        with pytest.raises(UserError, match=message):
            composer.job(4, [override])
    assert composer.job(5, ["seed=1"]).config.seed == 1


def test_per_run_settings_exist_in_the_schema(configured):
    choices = [f"{group}={name}" for group in ("optimizer", "scheduler") for name in CHOICES[group] if name != "custom"]
    known = {key for choice in choices for key, _ in leaves(asdict(configured(choice)))}
    assert all(any(each == key or each.startswith(f"{key}.") for each in known) for key in PER_RUN)
    assert not set(PER_RUN) & {key for key, _ in leaves(settings_without(configured(), PER_RUN))}


def test_the_usual_configurations_fit_into_a_population(configured):
    assert obstacle(configured("trainer=cpu")) is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer=ddp_cpu"],
        ["trainer.precision=bf16-mixed"],
        ["trainer.gradient_clip_val=1"],
        ["trainer.max_steps=10"],
        ["trainer.val_check_interval=0.5"],
        ["data=mnist", "data.augment=shift"],
        ["trainer.log_every_n_steps=5"],
        ["optimizer=custom", "optimizer._target_=torch.optim.RMSprop"],
        ["scheduler=custom", "scheduler._target_=torch.optim.lr_scheduler.ConstantLR"],
        ["callbacks.mine._target_=lightning.pytorch.callbacks.Timer"],
        ["logger.mine._target_=lightning.pytorch.loggers.CSVLogger"],
    ],
)
def test_the_reason_why_a_run_fits_no_population_is_named(configured, overrides):
    reason = obstacle(configured(*overrides))
    assert reason is not None
    key = reason.split("=")[0]
    assert any(key in override or "ddp" in override for override in overrides)


def test_jobs_of_the_same_shape_form_a_population_and_the_others_have_a_reason(jobs):
    made = jobs(
        [
            ["seed=0"],
            ["model.hidden=[8]"],
            ["seed=1", "optimizer.lr=0.5"],
            ["model.hidden=[8]", "seed=3"],
            ["trainer.gradient_clip_val=1.0"],
            ["model.hidden=[9]"],
            ["model.init=normal", "optimizer.momentum=0"],
        ]
    )
    (made[6].folder / "checkpoints").mkdir(parents=True)
    groups, reasons = divided(made)
    assert [[job.number for job in group] for group in groups] == [[0, 2], [1, 3]]
    assert set(reasons) == {4, 5, 6}
    assert "gradient_clip_val" in reasons[4]
    assert "shape" in reasons[5]
    assert "checkpoint" in reasons[6]


def test_a_number_of_batches_and_a_share_of_them_are_different_populations(jobs):
    one_batch, all_batches = ["trainer.limit_train_batches=1"], ["trainer.limit_train_batches=1.0"]
    made = jobs([[*one_batch, "seed=0"], [*all_batches, "seed=1"], [*one_batch, "seed=2"]])
    groups, reasons = divided(made)
    assert [[job.number for job in group] for group in groups] == [[0, 2]]
    assert set(reasons) == {1}


def parsed(text):
    (override,) = OverridesParser.create().parse_overrides([text])
    return override


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=interval(0.1,2)", FloatDistribution(0.1, 2)),
        ("a=tag(log,interval(0.001,1))", FloatDistribution(0.001, 1, log=True)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("a=range(1,10)", IntDistribution(1, 9)),
        ("a=range(0,10,3)", IntDistribution(0, 9, step=3)),
        ("a=range(0.0,1.0,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("a=choice(x,y)", CategoricalDistribution(["x", "y"])),
        ("a=1,2", CategoricalDistribution(["1", "2"])),
        ("a=[8],[16,8]", CategoricalDistribution(["[8]", "[16,8]"])),
    ],
)
def test_hydras_sweep_syntax_gives_optunas_distributions(text, expected):
    assert distribution(parsed(text)) == expected


@pytest.mark.parametrize(
    "text", ["a=interval(2,1)", "a=tag(log,interval(0,1))", "a=range(3,3)", "a=tag(log,range(1,64,3))"]
)
def test_a_key_without_values_is_refused(text):
    with pytest.raises(UserError, match=r"^a="):
        distribution(parsed(text))


def test_a_grid_has_every_combination_and_the_last_key_changes_fastest():
    overrides = [parsed(text) for text in ("seed=0,1", "x=5", "lr=choice(a,b)")]
    assert combinations(overrides) == [[f"seed={seed}", "x=5", f"lr={lr}"] for seed in (0, 1) for lr in ("a", "b")]
    for text in ("lr=interval(0,1)", "seed=range(0)"):
        with pytest.raises(UserError, match=r"intervals are for search=optuna|has no values"):
            combinations([parsed(text)])


def test_a_population_that_does_not_fit_into_memory_is_halved(jobs, monkeypatch):
    from backhand.sweeps import launcher

    made, trained = jobs([[f"seed={seed}"] for seed in range(5)]), []

    def train(group, dataset, note):
        if len(group) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        trained.append([job.number for job in group])
        return SimpleNamespace(members=group, failed=None)

    monkeypatch.setattr(launcher, "train_population", train)
    monkeypatch.setattr(launcher, "_remove_files", lambda group: None)
    monkeypatch.setattr(launcher, "_load", lambda job: None)
    monkeypatch.setattr(launcher, "most_runs", lambda config, dataset: 4)
    sweep = launcher.PopulationSweep(None, lambda cfg: None, None)
    monkeypatch.setattr(sweep, "_run", lambda job, task: job.number)
    assert sweep.launch(made) == [0, 1, 2, 3, 4]
    assert trained == [[0, 1], [2, 3], [4]]


def test_keys_of_a_custom_optimizer_are_swept(composer):
    custom = ["optimizer=custom", "optimizer._target_=torch.optim.RMSprop"]
    jobs = [composer.job(n, [*custom, f"optimizer.lr={lr}", "optimizer.alpha=0.5"]) for n, lr in enumerate((0.1, 0.2))]
    assert [(job.config.optimizer.lr, job.config.optimizer.alpha) for job in jobs] == [(0.1, 0.5), (0.2, 0.5)]
