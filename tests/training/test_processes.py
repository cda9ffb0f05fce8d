"""Several processes train the same network as one, and a job of a sweep leaves no process behind."""

import csv
import json
import os
import re
import signal
import time

import pytest
import torch
from lightning.pytorch.strategies import StrategyRegistry
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from backhand.config.dataset_info import DatasetInfo
from backhand.config.schema import STRATEGIES
from backhand.data.batches import Batches, Place
from backhand.data.dataset import Dataset, Rows
from backhand.errors import UserError
from backhand.training import processes, train
from backhand.training.processes import Launched, ProcessError, launched, reason_of, refuse_sweep

CLASS_WEIGHT = torch.tensor([1.0, 0.0, 5.0], dtype=torch.float64)


def shared_batches(count, weight, class_weight):
    """The batches of an epoch, four rows each and one in the last, for a single process and for each of `count`."""
    classes = torch.tensor([0, 1, 2, 2, 1, 0, 1, 1, 2])
    rows = Rows(torch.arange(9), torch.arange(9.0, dtype=torch.float64).unsqueeze(-1), classes, weight)
    data = Dataset({"train": rows}, DatasetInfo(features=1, classes=3), [])
    places = [Place(dtype=torch.float64), *(Place(dtype=torch.float64, rank=r, processes=count) for r in range(count))]
    return zip(*(Batches(rows, data, 4, place, None, class_weight=class_weight) for place in places), strict=True)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("weight", [None, torch.linspace(0.1, 2, 9, dtype=torch.float64)])
@pytest.mark.parametrize("class_weight", [None, CLASS_WEIGHT])
def test_the_shares_are_relative_to_what_the_loss_divides_by(count, weight, class_weight):
    logits = torch.randn(9, 3, dtype=torch.float64)

    def divisor(batch):
        each = torch.ones(len(batch.y), dtype=torch.float64) if batch.weight is None else batch.weight
        return each if class_weight is None else each * class_weight[batch.y]

    def loss(batch):
        each = torch.nn.functional.cross_entropy(logits[batch.x[:, 0].long()], batch.y, reduction="none")
        return (each * divisor(batch)).sum() / divisor(batch).sum()

    for whole, *parts in shared_batches(count, weight, class_weight):
        counts = len(whole.y) if weight is None else whole.weight.sum()
        assert all(part.total == pytest.approx(float(counts)) for part in parts)
        assert sum(part.part for part in parts) == pytest.approx(1)
        assert sum(part.share for part in parts) == pytest.approx(count)
        means = [loss(part) * part.share for part in parts if part.share]
        torch.testing.assert_close(sum(means) / count, loss(whole))


def test_a_batch_in_which_no_sample_counts_has_the_share_1():
    weight = torch.tensor([0.0] * 4 + [1.0] * 5, dtype=torch.float64)
    first, *_ = shared_batches(2, weight, None)
    assert [part.share for part in first[1:]] == [1.0, 1.0]


def test_augmented_images_are_those_of_a_single_process():
    x = torch.randint(256, (10, 3 * 28 * 28), dtype=torch.uint8)
    rows = Rows(torch.arange(10), x, torch.arange(10))
    data = Dataset({"train": rows}, DatasetInfo(3 * 28 * 28, 10, image_shape=(3, 28, 28)), [])
    single, first, second = (
        Batches(rows, data, 4, place, shuffle_seed=1, augmentation="shift")
        for place in (Place(), Place(rank=0, processes=2), Place(rank=1, processes=2))
    )
    for full, *parts in zip(single, first, second, strict=True):
        assert torch.equal(full.x[::2], parts[0].x)
        assert torch.equal(full.x[1::2], parts[1].x)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (
            {"TORCHELASTIC_RUN_ID": "1", "RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"},
            Launched("torchrun", 3, 4),
        ),
        (
            {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"},
            Launched("srun", 1, 2),
        ),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, None),  # a batch script without srun
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        ({"LOCAL_RANK": "0"}, None),  # a single process
        ({"NODE_RANK": "0", "LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"NODE_RANK": "1"}, Launched("another launcher (RANK, WORLD_SIZE)", 1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "2"}, Launched("another launcher (RANK, WORLD_SIZE)", 0, 2)),
    ],
)
def test_who_started_this_process_is_read_from_the_environment(monkeypatch, environment, expected):
    for name in list(os.environ):
        if name.startswith(("SLURM", "TORCHELASTIC")) or name in ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected
    if expected is None:
        refuse_sweep()
    else:
        with pytest.raises(UserError, match=f"--multirun under {re.escape(expected.by)}: .* python train.py -m"):
            refuse_sweep()


def test_another_number_of_processes_than_the_settings_need_is_refused(configured, monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "launched", lambda: Launched("torchrun", 0, 2))
    for devices in (1, 3):
        config = configured("trainer=ddp_cpu", f"trainer.devices={devices}", "logger=none")
        with pytest.raises(UserError, match=f"torchrun starts 2 processes, and the settings are for {devices}"):
            train.train(config, tmp_path)


def test_several_machines_need_torchrun(configured, tmp_path):
    config = configured("trainer=ddp_cpu", "trainer.num_nodes=2", "logger=none")
    with pytest.raises(UserError, match=r"this command starts 2 processes, and the settings are for 4; .* torchrun"):
        train.train(config, tmp_path)


def test_a_job_of_slurm_with_a_single_task_starts_its_processes_itself(configured, tmp_path, monkeypatch):
    for name, value in {"NTASKS": "1", "NTASKS_PER_NODE": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    trainer = train.build_trainer(configured("trainer=ddp_cpu"), tmp_path, callbacks=[], logger=False)
    assert processes.processes_to_start(trainer) == 2


@pytest.mark.parametrize("strategy", ["auto", *StrategyRegistry.available_strategies()])
def test_a_strategy_is_refused_at_once_or_can_be_started(configured, tmp_path, strategy):
    if strategy not in STRATEGIES:
        with pytest.raises(UserError, match=rf"trainer\.strategy={strategy}: .*{', '.join(STRATEGIES)}"):
            configured(f"trainer.strategy={strategy}")
    else:
        config = configured("trainer=cpu", f"trainer.strategy={strategy}")
        trainer = train.build_trainer(config, tmp_path, callbacks=[], logger=False)
        assert processes.processes_to_start(trainer) == strategy.startswith("ddp")
        if strategy.startswith("ddp"):
            assert StrategyRegistry[strategy]["init_params"]["start_method"] == "popen"  # neither forked nor spawned


@pytest.mark.parametrize(("cores", "warnings"), [(2, 0), (1, 1)])
def test_more_processes_than_cores_cause_a_warning(configured, tmp_path, monkeypatch, caplog, cores, warnings):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    trainer = train.build_trainer(configured("trainer=ddp_cpu"), tmp_path, callbacks=[], logger=False)
    assert processes.processes_to_start(trainer) == 2
    assert caplog.text.count("trainer.devices=2: slow, for this machine has 1 cores") == warnings


LOST = "RuntimeError: Connection closed by peer"


@pytest.mark.parametrize(
    ("ends", "kind", "reason"),
    [
        ({0: (1, LOST, 0), 1: (-9, None, 0)}, ProcessError, "process 1 was ended by SIGKILL"),
        ({0: (1, LOST, 0), 1: (3, None, 0)}, ProcessError, "process 1 left with status 3"),
        ({0: (143, None, 0), 1: (1, "ValueError: no", 0)}, ProcessError, "process 1: ValueError: no"),
        ({0: (-9, None, 0), 1: (1, "ValueError: no", 30)}, ProcessError, "process 1: ValueError: no"),
        ({0: (1, LOST, 0), 1: (1, "ValueError: no", 2)}, ProcessError, "process 1: ValueError: no"),
        ({0: (-15, None, 0), 1: (1, "UserError: lr=x: no", 0)}, UserError, "lr=x: no"),
        ({0: (143, None, 0), 1: (143, None, 0)}, SystemExit, "143"),
    ],
    ids=["killed", "left", "ended with it", "killed by the launcher", "first", "refused", "interrupted"],
)
def test_a_run_fails_with_the_cause_and_not_with_its_consequence(tmp_path, ends, kind, reason):
    failures = {}
    for rank, (status, said, seconds_ago) in ends.items():
        path = tmp_path / str(rank)
        if said is not None:
            extra = {"py_callstack": said, "timestamp": str(int(time.time()) - seconds_ago)}
            path.write_text(json.dumps({"message": {"message": said, "extraInfo": extra}}))
        failures[rank] = ProcessFailure(rank, pid=1, exitcode=status, error_file=str(path))
    error = reason_of(failures)
    assert (type(error), str(error)) == (kind, reason)


@pytest.fixture
def distributed(configured, tmp_path):
    """Train in several processes with the given overrides, without output; returns the run's folder."""

    def run(*overrides):
        folder = tmp_path / f"shared{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        text = r"name='\${nowhere}'"  # stays literal text
        config = configured("callbacks=quiet", "logger=csv", "trainer=ddp_cpu", text, *overrides)
        before = dict(os.environ)
        handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        try:
            returned = train.train(config, folder, sweep=tmp_path)
        finally:
            assert dict(os.environ) == before
            assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
            assert not torch.distributed.is_initialized()
        assert returned == json.loads((folder / "result.json").read_text())["objective"]["value"]
        return folder

    return run


def of(folder):
    """A run's weights, its result, and its epochs."""
    with (folder / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state, json.loads((folder / "result.json").read_text()), rows


@pytest.fixture
def weighted_table(tmp_path):
    """A table of 97 rows in two classes, some with the weight 0."""
    path, generator = tmp_path / "table.csv", torch.Generator().manual_seed(0)
    x = torch.randn(97, 2, generator=generator)
    counts = torch.randint(4, (97,), generator=generator)
    kinds = ["ab"[int(total > 0.3)] for total in x.sum(1)]
    lines = [f"{a:.4f},{b:.4f},{n},{kind}" for (a, b), n, kind in zip(x.tolist(), counts.tolist(), kinds, strict=True)]
    path.write_text("\n".join(["u,v,count,kind", *lines]) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "overrides"),
    [
        # 124 rows to train on: the last batch has 24, 3 or 1 of them.
        pytest.param(
            2, ("data=wine", "data.batch_size=50", "model.class_weight=[1,3,0.2]", "scheduler=plateau",
                "scheduler.patience=0"), marks=pytest.mark.smoke,
        ),
        pytest.param(
            2, ("data=wine", "data.batch_size=11", "model.class_weight=[1,0,5]", "optimizer=adam"),
            marks=pytest.mark.stress,
        ),
        pytest.param(
            3, ("data=wine", "data.batch_size=41", "model.class_weight=balanced", "trainer.accumulate_grad_batches=2"),
            marks=pytest.mark.stress,
        ),
        (2, ("data=diabetes", "data.batch_size=100", "trainer.gradient_clip_val=0.1", "objective=val/r2")),
        (2, ("data=table", "data.target=kind", "+data.weight=count", "data.batch_size=16", "model.loss=cross_entropy",
             "model.output_activation=softmax", "model.class_weight=balanced", "callbacks.early_stopping.patience=1")),
    ],
    ids=["class weights, plateau", "a class without", "a row for three, accumulated", "a number", "both weights"],
)  # fmt: skip
def test_processes_train_the_same_network_as_one(trained, distributed, weighted_table, count, overrides):
    if "data=table" in overrides:
        overrides = (
            "callbacks=early_stopping",
            "callbacks.progress_bar=false",
            *overrides,
            f"data.path={weighted_table}",
        )
    shared = ("trainer.precision=64-true", "trainer.max_epochs=4", *overrides)
    state, result, rows = of(distributed(f"trainer.devices={count}", *shared))
    expected_state, expected_result, expected_rows = of(trained("logger=csv", *shared))
    for name, value in expected_state.items():
        torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-12)
    assert [result[name] for name in ("status", "steps", "epochs")] == [
        expected_result[name] for name in ("status", "steps", "epochs")
    ]
    assert result["metrics"] == pytest.approx(expected_result["metrics"], rel=1e-6)
    assert len(rows) == len(expected_rows)
    for row, expected in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_run_fails_with_the_error_of_its_process(distributed, tmp_path):
    # Three batches an epoch are too few for this interval, which Lightning refuses when it starts.
    with pytest.raises(ProcessError, match=r"process \d: ValueError: .*val_check_interval"):
        distributed("data=wine", "trainer.limit_train_batches=3", "trainer.val_check_interval=4")
    (record,) = [json.loads(path.read_text()) for path in tmp_path.glob("*/result.json")]
    assert record["status"] == "failed"
    assert "val_check_interval" in record["error"]


@pytest.mark.slow
def test_processes_refuse_what_a_single_process_refuses(trained, distributed):
    other = trained("data=wine", "trainer.max_epochs=1", "model.hidden=[8]")
    with pytest.raises(UserError, match=r"ckpt_path=.* was trained with sizes=\[13, 8, 3\]"):
        distributed("data=wine", f"ckpt_path={other}/checkpoints/last.ckpt")
