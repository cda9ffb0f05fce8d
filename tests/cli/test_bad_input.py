"""What is wrong is said in one line, with exit status 1, before anything is made."""

import pytest

TRAIN = [
    (["model.hidden_activation=tahn"], "did you mean tanh"),
    (["model.hidden_activation=softmax"], "choose from identity, relu, leaky_relu, elu"),
    (["model.output_activation=soft"], "did you mean softmax"),
    (["model.loss=cross_entropy", "model.output_activation=identity"], "distribution over the classes: softmax"),
    (["data=wine", "model.loss=binary_cross_entropy", "model.output_activation=sigmoid"], "data=wine has 3"),
    (["data=diabetes", "model.output_activation=sigmoid", "model.loss=binary_cross_entropy"], "a number to predict"),
    (["data=diabetes", "model.output_activation=softmax"], "single output"),
    (["optimizer.lr=-1"], "optimizer.lr=-1.0: must be above 0"),
    (["optimizer.lr=nan"], "must be above 0"),
    (["optimizer.lr=fast"], "optimizer.lr=fast: must be a number"),
    (["optimizer.momentum=1"], "below 1"),
    (["optimizer=adam", "optimizer.momentum=0.9"], "belongs to optimizer=sgd"),
    (["optimizer=adam", "optimizer.betas=[0.9]"], "two numbers"),
    (["optimizer=sdg"], "did you mean sgd"),
    (["scheduler=cosine", "trainer.max_epochs=-1"], "needs trainer.max_epochs"),
    (["scheduler=step", "scheduler.factor=2"], "between 0 and 1"),
    (["model.hidden=[0]"], "1 unit or more"),
    (["model.hidden=[64,x]"], "must be a whole number"),
    (["model.hidden=64"], "must be a list"),
    (["model.hiden=[64]"], "did you mean hidden"),
    (["model.gradient=numeric"], "choose from hand, autograd"),
    (["model.label_smoothing=1.5"], "model.label_smoothing=1.5: must be a number between 0 and 1"),
    (["model.class_weight=[1,2]"], "has 2 numbers for 10 outputs"),
    (["model.class_weight=heavy"], "a number or a list of numbers"),
    (["model.pos_weight=2"], "belongs to binary_cross_entropy"),
    (["data=diabetes", "model.loss=huber", "model.huber_delta=0"], "must be a number between"),
    (["callbacks.audit.every=0"], "callbacks.audit.every=0: must be at least 1"),
    (["callbacks.audit.stop=1e-9"], "at least callbacks.audit.warn"),
    (["callbacks=quiet", "callbacks.audit.every=5"], "callbacks.audit is off here (null); choose a callbacks=…"),
    (["logger=csv", "logger.wandb.mode=offline"], "logger.wandb is off here"),
    (["data.batch_size=0"], "1 or more, or full"),
    (["data.batch_size=half"], "1 or more, or full"),
    (["data.val_fraction=0.6", "data.test_fraction=0.6"], "below 1"),
    (["data=wine", "data.test_fraction=0.01"], "are left to test"),
    (["data=minst"], "did you mean mnist"),
    (["data=table"], "data.path: data=table needs a value"),
    (["data=table", "data.path=nowhere.csv", "data.target=y"], "data.path=nowhere.csv: no such file"),
    (["data=table", "data.path=.", "data.target=y", "data.task=regression"], "choose from auto, classes, number"),
    (["data=table", "data.path=.", "data.target=y", "data.missing=zero"], "choose from refuse, mean, median"),
    (["data.path=my.csv"], "data.path: data=digits has no such setting; it belongs to data=table"),
    (["data.augment=flip"], "it belongs to data=mnist or data=fashion_mnist"),
    (["data=mnist", "data.augment=rotate"], "choose from none, shift, flip, crop"),
    (["data=mnist", "data.test_fraction=0.1"], "has a test split of its own; it must be 0"),
    (["data=teacher", "data.samples=10"], "it needs 2 or more"),
    (["data=teacher", "data.features=0"], "data.features=0: must be at least 1"),
    (["data=teacher", "data.hidden=[0]"], "data.hidden=0: must be at least 1"),
    (["data.device=gpu"], "choose from auto, accelerator, cpu"),
    (["compile=true", "model.gradient=autograd"], "compile=true does not go with model.gradient=autograd"),
    (["compile=true", "trainer.gradient_clip_val=1"], "compile=true does not go with trainer.gradient_clip_val"),
    (["compile=true", "trainer.precision=bf16-mixed"], "it has one precision"),
    (["compile=true", "trainer=ddp_cpu"], "it is for one"),
    (["on_nan=ignore"], "on_nan=ignore: no such choice; choose from stop, skip, continue"),
    (["compile=perhaps"], "compile=perhaps: must be true or false"),
    (["trainer.accumulate_grad_batches=0"], "must be at least 1"),
    (["trainer.gradient_clip_algorithm=median"], "choose from norm, value"),
    (["trainer.limit_train_batches=some"], "must be a number of batches"),
    (["optimizer.lr=1e400"], "finite"),
    (["hydra.run.dir=/proc/nowhere"], "/proc/nowhere"),
    (["data=null"], "Got NoneType"),
    (["dta=digits"], "did you mean data"),
    (["trainer.max_epoch=3"], "did you mean max_epochs"),
    (["trainer.max_epochs=0"], "1 or more"),
    (["trainer.precision=8"], "choose from 32-true"),
    (["+trainer.nonsense=1"], "no such key"),
    (["+optimizer.nesterov=true"], "no such key"),
    (["seed=-1"], "at least 0"),
    (["objective=test/acc"], "choose from train/loss"),
    (["logger.wandb.mode=on"], "choose from auto, online"),
    (["model.loss=${nowhere}"], "not found"),
    (["model.hidden=[["], "not of the form key=value"),
    (["ckpt_path=nowhere.ckpt"], "no such file"),
    (["ckpt_path=."], "is a folder"),
]
EVALUATE = [
    ([], "run: must be given"),
    (["run=nowhere"], "no such folder"),
    (["run=."], "no .hydra/config.yaml"),
    (["run"], "not of the form key=value"),
    (["rn=."], "did you mean run"),
    (["run=.", "split=tset"], "did you mean test"),
    (["run=.", "input=new.csv", "split=test"], "give one of the two"),
]

GRADCHECK = [
    (["only=tan"], "did you mean tanh"),
    (["folder=nowhere"], "no such folder"),
    (["folder=/proc"], "folder=/proc: cannot be written to"),
    (["processes=some"], "must be a whole number"),
    (["model.loss=mse"], "name it with target=FILE:NAME"),
    (["target=mine.py:backward"], "no such file"),
    (["target=mine"], "must be FILE:NAME"),
    (["target"], "not of the form key=value"),
]
DERIVE = [
    (["format=pdf"], "choose from terminal, latex, markdown, html"),
    (["model.loss=mze"], "did you mean mse"),
    (["model.hidden=64"], "must be a list"),
    (["model.hidden=[-1]"], "1 unit or more"),
    (["model.hiden=[64]"], "did you mean model.hidden"),
    (["output=nowhere/derivation.tex"], "there is no folder nowhere"),
    (["model=mlp"], "no such key"),
]
BENCHMARK = [
    ([], "name what to measure: step, memory, epoch, startup, sweep, or all"),
    (["steps"], "did you mean step"),
    (["step", "rounds=0"], "must be 1 or more"),
    (["step", "rounds=many"], "must be a whole number"),
    (["memory", "folder=nowhere"], "no such folder"),
    (["memory", "device=cuda0"], "choose from auto, cpu, cuda"),
    (["step", "wirte=true"], "did you mean write"),
]


def named(value: list[str] | str) -> str:
    return " ".join(value) if isinstance(value, list) else ""


def one_line(result, script, reason, folder):
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith(f"{script}: ")
    assert reason in result.stderr
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("arguments", "reason"), TRAIN, ids=named)
def test_train_refuses_in_one_line(command, tmp_path, arguments, reason):
    one_line(command("train.py", *arguments), "train.py", reason, tmp_path)


@pytest.mark.parametrize(("arguments", "reason"), EVALUATE, ids=named)
def test_evaluate_refuses_in_one_line(command, tmp_path, arguments, reason):
    one_line(command("scripts/evaluate.py", *arguments), "evaluate.py", reason, tmp_path)


@pytest.mark.parametrize(("arguments", "reason"), GRADCHECK, ids=named)
def test_gradcheck_refuses_in_one_line(command, tmp_path, arguments, reason):
    one_line(command("scripts/gradcheck.py", *arguments), "gradcheck.py", reason, tmp_path)


@pytest.mark.parametrize(("arguments", "reason"), DERIVE, ids=named)
def test_derive_refuses_in_one_line(command, tmp_path, arguments, reason):
    one_line(command("scripts/derive.py", *arguments), "derive.py", reason, tmp_path)


@pytest.mark.parametrize(("arguments", "reason"), BENCHMARK, ids=named)
def test_benchmark_refuses_in_one_line(command, tmp_path, arguments, reason):
    one_line(command("scripts/benchmark.py", *arguments), "benchmark.py", reason, tmp_path)


@pytest.mark.slow
def test_what_only_the_trainer_can_refuse_leaves_no_folder_either(command, tmp_path):
    result = command("train.py", "trainer=gpu", CUDA_VISIBLE_DEVICES="")
    one_line(result, "train.py", "gpu", tmp_path)


def test_a_file_that_is_no_checkpoint_is_refused(command, tmp_path):
    (tmp_path / "notes.ckpt").write_text("not a checkpoint")
    result = command("train.py", "ckpt_path=notes.ckpt")
    assert result.returncode == 1
    assert result.stderr == "train.py: ckpt_path=notes.ckpt: is no checkpoint, or a damaged one\n"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.ckpt"]


@pytest.mark.slow
def test_a_checkpoint_that_holds_code_is_not_opened(command, tmp_path):
    import torch

    torch.save({"state_dict": {}, "hyper_parameters": Trap()}, tmp_path / "trap.ckpt")
    result = command("train.py", "ckpt_path=trap.ckpt")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert "more than plain data" in result.stderr


class Trap:
    def __reduce__(self):
        return print, ("the trap was sprung",)
