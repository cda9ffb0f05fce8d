"""The trials of a search, which do not depend on interruptions."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from backhand.errors import UserError
from backhand.sweeps.search import SearchSettings
from backhand.sweeps.study import Study

SPACE = {
    "a": FloatDistribution(0.001, 1, log=True),
    "b": IntDistribution(1, 8),
    "c": CategoricalDistribution(["1", "2"]),
}


def search(sampler, **options):
    return SearchSettings(None, 6, 2, sampler, options, 0, None)


def trials(study):
    return [(each.number, each.state, each.params, each.values) for each in study.trials]


def run(path, settings, n_jobs=2, n_trials=6):
    """Run a search to its end; returns its trials, and the contents of the file after each write."""
    study = Study(path, ["val/loss"], SPACE, settings.build_sampler)
    held = []
    for batch in study.batches(n_trials, n_jobs):
        held.append(path.read_text())
        for trial in batch:
            study.tell(trial.number, [None if trial.number == 3 else sum(map(float, trial.params.values()))])
    return trials(study), [*held, path.read_text()]


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("TPESampler", {"n_startup_trials": 2}),
        ("TPESampler", {"n_startup_trials": 2, "multivariate": True}),
        ("QMCSampler", {}),
        ("NSGAIISampler", {"population_size": 2}),
    ],
)
def test_a_search_killed_at_any_moment_draws_the_same_trials(tmp_path, sampler, options):
    settings = search(sampler, **options)
    whole, held = run(tmp_path / "whole", settings)
    assert len(whole) == 6
    assert len(held) == 4
    for number, text in enumerate(["", *held]):
        path = tmp_path / str(number)
        path.write_text(text)
        assert run(path, settings)[0] == whole


def test_the_file_has_all_trials_of_a_batch_before_it_is_run(tmp_path):
    _, held = run(tmp_path / "whole", search("TPESampler"))
    for number, text in enumerate(held[:-1]):
        (tmp_path / "study").write_text(text)
        running = Study(tmp_path / "study", ["val/loss"], SPACE, search("TPESampler").build_sampler).trials
        assert [len(each.params) for each in running] == [3] * 2 * (number + 1)


def test_a_search_can_be_extended_and_optuna_reads_its_file(tmp_path):
    settings = search("TPESampler")
    first, _ = run(tmp_path / "study", settings, n_trials=3)
    more, _ = run(tmp_path / "study", settings, n_jobs=1)
    assert (more[:3], len(more)) == (first, 6)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study")))
    assert trials(optuna.load_study(study_name="sweep", storage=storage)) == more


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-7],
        lambda text: text.replace('"a"', '"hydra.searchpath"'),
        lambda text: "\n".join(line for line in text.splitlines() if '"c"' not in line),
        lambda text: text.replace('"op_code":5', '"op_code":77'),
        lambda text: "[" * 99999,
    ],
)
def test_a_damaged_file_or_one_of_another_space_is_refused(tmp_path, damage):
    path = tmp_path / "study"
    _, held = run(path, search("RandomSampler"))
    path.write_text(damage(held[-1]))
    with pytest.raises(UserError, match=r"study: cannot be read as a study"):
        run(path, search("RandomSampler"))


def test_a_sampler_that_unpickles_contents_of_a_study_is_not_offered():
    with pytest.raises(UserError, match=r"hydra.sweeper.sampler=CmaEsSampler: no such choice"):
        search("CmaEsSampler")
    search("NSGAIISampler")
