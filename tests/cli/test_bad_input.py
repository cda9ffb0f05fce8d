"""Bad input is reported in one line, with exit status 1, and no file is made or changed.

A case is what is written on the command line, the words that must be in the line, and the files that there are.
"""

import copy
import functools
import gzip
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from tests.cli import bad_files as files
from tests.cli.conftest import ROOT
from tests.memory import peak_memory

from backhand.config import CONF
from backhand.config.errors import USER_ERRORS, one_line
from backhand.config.schema import CHOICES, TrainConfig
from backhand.config.validation import parse_config


class Case(NamedTuple):
    arguments: list[str]
    says: str
    make: files.Make | None = None
    script: str = "train.py"


def keys_of(kind: Any = TrainConfig, prefix: str = "", optional: bool = False) -> dict[str, tuple[Any, bool]]:
    """Each key's type, and whether it is in an optional part of the configuration."""
    found: dict[str, tuple[Any, bool]] = {}
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        inner = next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)
        if inner is None:
            found[prefix + field.name] = hint, optional
        else:
            found |= keys_of(inner, f"{prefix}{field.name}.", optional or inner is not hint)
    return found


KEYS = keys_of()
OFF = {"callbacks.early_stopping": "callbacks=early_stopping"}  # what switches the part on
# Keys that exist only with one choice, and the choice.
OF_CHOICES = {
    key: (hint, f"{group}={name}")
    for group, choices in CHOICES.items()
    for name, kind in reversed(choices.items())
    for key, (hint, _) in keys_of(kind, f"{group}.").items()
    if key not in KEYS
}


def wrong_type(key: str, hint: Any, *choice: str) -> Case:
    """A value of a wrong type for a key of the schema; keys of any type have their cases in `VALUES`."""
    on = [switch for part, switch in OFF.items() if key.startswith(part)] + list(choice)
    kind = next((part for part in get_args(hint) if type(None) in get_args(hint)), hint)
    if get_origin(kind) is list:
        shown = {"int": "[64] or", "float": "[0.9,0.999]"}.get(get_args(kind)[0].__name__, "[a,b]")
        return Case([*on, f"{key}=5"], f"{key}: must be a list, such as {shown}")
    if kind is int:
        return Case([*on, f"{key}=1.5"], f"{key}=1.5: must be a whole number")
    if kind is float:
        return Case([*on, f"{key}=fast"], f"{key}=fast: must be a number")
    if kind is bool:
        return Case([*on, f"{key}=perhaps"], f"{key}=perhaps: must be true or false")
    assert kind is str, f"{key}: {hint}"
    return Case([*on, f"{key}=[1]"], f"{key}: ")


TYPES = [wrong_type(key, hint) for key, (hint, _) in KEYS.items() if hint is not Any]
TYPES += [wrong_type(key, hint, choice) for key, (hint, choice) in OF_CHOICES.items()]
NEEDED = [Case([f"{key}=null"], f"{key}=null: needs a value") for key in ("seed", "objective", "optimizer.lr", "tags")]
MISSPELT = [
    Case([f"{key}=1"], f"did you mean {meant}?")
    for key, meant in (
        ("sed", "seed"), ("objectiv", "objective"), ("dta", "data"), ("data.batchsize", "batch_size"),
        ("model.hiden", "hidden"), ("optimizer.momentun", "momentum"),
        ("trainer.max_epoch", "max_epochs"), ("logger.wandb.projet", "project"), ("callbacks.audit.evry", "every"),
        ("callbacks.earlystopping", "early_stopping"), ("sweep.topp", "top"), ("logger.wadnb", "wandb"),
        ("callbacks.flow.sample", "samples"), ("+trainer.max_epoch", "max_epochs"), ("++seeds", "seed"),
        ("lr", "optimizer.lr"), ("max_epochs", "trainer.max_epochs"), ("+hidden", "model.hidden"),
        ("learning_rate", "optimizer.lr"), ("optimizer.learning_rate", "lr"), ("optimizer.wd", "weight_decay"),
    )
]  # fmt: skip

VALUES = [
    Case(["model.hidden_activation=tahn"], "did you mean tanh"),
    Case(["model.hidden_activation=[tanh,tahn]", "model.hidden=[8,8]"], "did you mean tanh"),
    Case(["model.hidden_activation=[tanh,relu]"], "has 2 names for 1 hidden layer;"),
    Case(["model.hidden_activation=[[tanh]]"], "must be a name, or a list with one name for each hidden layer"),
    Case(["model.hidden_activation=3"], "must be a name"),
    Case(
        ["data=teacher", "data.hidden=[4]", "model.hidden=[8,8]", "model.hidden_activation=[tanh,relu]"],
        "the teacher uses the same activations and has 1 hidden layer (data.hidden)",
    ),
    Case(["model.hidden_activation=softmax"], "choose from identity, relu, leaky_relu, elu"),
    Case(["model.output_activation=soft"], "did you mean softmax"),
    Case(["model.loss=mze"], "did you mean mse"),
    Case(["model.loss=cross"], "did you mean cross_entropy"),
    Case(["trainer.strategy=fsdp"], "trainer.strategy=fsdp: no such choice; choose from auto, single_device, ddp"),
    Case(["model.loss=cross_entropy", "model.output_activation=identity"], "distribution over the classes: softmax"),
    Case(["data=wine", "model.loss=binary_cross_entropy", "model.output_activation=sigmoid"], "data=wine has 3"),
    Case(["data=diabetes", "model.output_activation=sigmoid", "model.loss=binary_cross_entropy"], "is a regression"),
    Case(["data=diabetes", "model.output_activation=softmax"], "single output"),
    Case(["model.hidden=[0]"], "1 unit or more"),
    Case(["model.hidden=[64,[3]]"], "must be a whole number"),
    Case(["model.hidden=[64,x]"], "must be a whole number"),
    Case(["model.hidden=[99999999999999999999]"], "can have at most 2147483647 units"),
    Case(["model.gradient=numeric"], "choose from hand, autograd"),
    Case(["model.init=xaver"], "model.init=xaver: no such choice (did you mean xavier"),
    Case(["model.init_scale=-1"], "model.init_scale=-1.0: must be at least 0"),
    Case(["model.label_smoothing=1.5"], "model.label_smoothing=1.5: must be a number between 0 and 1"),
    Case(["model.class_weight=[1,2]"], "has 2 numbers for 10 outputs"),
    Case(["model.class_weight=heavy"], "a number or a list of numbers"),
    Case(["model.class_weight={a:1}"], "model.class_weight"),
    Case(["model.pos_weight=2"], "belongs to binary_cross_entropy"),
    Case(["data=breast_cancer", "model.pos_weight=[a]"], "model.pos_weight"),
    Case(["data=diabetes", "model.loss=huber", "model.huber_delta=0"], "must be a number between"),
    Case(["optimizer.lr=-1"], "optimizer.lr=-1.0: must be above 0"),
    Case(["optimizer.lr=nan"], "must be a finite number"),
    Case(["optimizer.lr=1e400"], "finite"),
    Case(["optimizer.weight_decay=-0.1"], "optimizer.weight_decay=-0.1: must be at least 0"),
    Case(["optimizer.momentum=1"], "below 1"),
    Case(["optimizer=adam", "optimizer.momentum=0.9"], "belongs to optimizer=sgd"),
    Case(["optimizer.betas=[0.9,0.99]"], "belongs to optimizer=adam"),
    Case(["optimizer=adam", "optimizer.betas=[0.9]"], "two numbers"),
    Case(["optimizer=adam", "optimizer.eps=-1"], "optimizer.eps=-1.0: must be at least 0"),
    Case(["optimizer.name=sdg"], "optimizer.name=sdg: no such choice (did you mean sgd?)"),
    Case(["optimizer=sdg"], "did you mean sgd"),
    Case(["scheduler=cosin"], "did you mean cosine"),
    Case(["scheduler=cosine", "trainer.max_epochs=-1"], "needs trainer.max_epochs"),
    Case(["scheduler=cosine", "scheduler.min_lr=1"], "scheduler.min_lr=1.0: must be at most optimizer.lr=0.1"),
    Case(["scheduler=step", "scheduler.factor=2"], "scheduler.factor=2.0: must be below 1"),
    Case(["scheduler=step", "scheduler.evry=3"], "did you mean every?"),
    Case(["scheduler=step", "scheduler.every=0"], "scheduler.every=0: must be at least 1"),
    Case(["scheduler=plateau", "scheduler.patience=-1"], "scheduler.patience=-1: must be at least 0"),
    Case(["scheduler.every=3"], "belongs to scheduler=step"),
    Case(["callbacks.audit.every=0"], "callbacks.audit.every=0: must be at least 1"),
    Case(["callbacks.audit.warn=0"], "callbacks.audit.warn=0.0: must be above 0"),
    Case(["callbacks.audit.stop=1e-9"], "at least callbacks.audit.warn"),
    Case(["callbacks.audit.stop=inf"], "callbacks.audit.stop=inf: must be a finite number"),
    *(
        Case([f"{group}._target_=X"], f"{group}.NAME._target_=…: docs/extending.md")
        for group in ("callbacks", "logger")
    ),
    Case(
        ["callbacks=quiet", "callbacks.audit.every=5"],
        "callbacks.audit is null; it needs callbacks=audit or default or early_stopping",
    ),
    Case(["data=wine", "callbacks.early_stopping.patience=5"], "is null; it needs callbacks=early_stopping"),
    Case(["callbacks=early_stopping", "callbacks.early_stopping.patience=0"], "patience=0: must be at least 1"),
    Case(["callbacks=early_stopping", "callbacks.early_stopping.min_delta=-1"], "min_delta=-1.0: must be at least 0"),
    Case(["callbacks.audti.every=3"], "callbacks.audti: no such key (did you mean audit?); callbacks has progress_bar"),
    Case(["+callbacks.mine=3"], "callbacks.mine: no such key"),
    Case(["optimizer=custom"], "optimizer._target_: missing; optimizer=custom needs it"),
    Case(
        ["optimizer=custom", "optimizer._target_=torch.optim.RMSpro"],
        "torch.optim.optimizer.Optimizer (did you mean RMSprop?)",
    ),
    Case(["optimizer=custom", "optimizer._target_=torch.nn.Linear"], "must be the name of a subclass of torch.optim."),
    Case(
        ["optimizer=custom", "optimizer._target_=torch.optim.RMSprop", "optimizer.alhpa=1"],
        "optimizer.alhpa: no such argument (did you mean alpha?); RMSprop has lr, alpha, eps",
    ),
    *(
        Case(
            ["optimizer=custom", "optimizer._target_=torch.optim.SGD", f"optimizer.lr={lr}"],
            f"optimizer.lr={said}: must",
        )
        for lr, said in (("-1", "-1"), ("fast", "fast"), ("[0.1]", "[0.1]"), ("nan", "nan"))
    ),
    Case(["optimizer=custom", "optimizer._target_=RMSprop"], "must be module and class, such as torch.optim"),
    Case(["callbacks.mine._target_="], "callbacks.mine._target_=: must be module and class"),
    Case(["callbacks.a-b._target_=x.Y"], "callbacks.a-b: must be a name of letters, digits and _"),
    Case(["scheduler=custom", "scheduler._target_=torch.optim.SGD"], "scheduler._target_=torch.optim.SGD: must be"),
    Case(["scheduler=custom", "scheduler._target_=torch.optim.lr_scheduler.StepLR"], "StepLR cannot be created"),
    Case(["callbacks.mine._target_=nowhere.Mine"], "callbacks.mine._target_=nowhere.Mine: cannot be imported"),
    Case(
        ["logger.mine._target_=lightning.pytorch.callbacks.Timer"],
        "must be the name of a subclass of lightning.pytorch.loggers.logger.Logger",
    ),
    Case(["compile=true", "optimizer=custom", "optimizer._target_=torch.optim.RMSprop"], "use sgd, adam or adamw"),
    Case(
        ["scheduler=cosine", "optimizer=custom", "optimizer._target_=torch.optim.RMSprop"], "cosine: needs optimizer.lr"
    ),
    Case(["imports=[nowhere.py]"], "imports=nowhere.py: no such file"),
    Case(["imports=[nowhere_else]"], "imports=nowhere_else: cannot be imported (ModuleNotFoundError"),
    Case(["callbacks.flow.samples=0"], "callbacks.flow.samples=0: must be at least 1"),
    Case(["logger=csv", "logger.wandb.mode=offline"], "logger.wandb is null"),
    Case(["logger.wandb.mode=on"], "choose from auto, online"),
    Case(["logger.wandb.project=a/b"], "logger.wandb.project=a/b: must be a name of 1 to 128 characters"),
    Case(["logger.wandb.histograms_every=0"], "logger.wandb.histograms_every=0: must be at least 1"),
    Case(["sweep.max_failures=-1"], "sweep.max_failures=-1: must be at least 0"),
    Case(["sweep.top=0"], "sweep.top=0: must be at least 1"),
    Case(["on_nan=ignore"], "on_nan=ignore: no such choice; choose from stop, skip, continue"),
    Case(["on_divergence=ignore"], "on_divergence=ignore: no such choice; choose from fail, ok"),
    Case(["checkpoint.every_n_steps=0"], "checkpoint.every_n_steps=0: must be at least 1"),
    Case(["-m", "seed=range(10001)"], "seed=range(10001): makes more than 10000 jobs, the limit of a sweep"),
    Case(["-m", "seed=range(100)", "optimizer.lr=range(1,102)"], "makes more than 10000 jobs"),
    Case(["seed=1", "-m", "optimizer.lr=1,2"], "-m: stands between settings; put all flags first"),
    Case(["seed=1", "--config-dir", ".", "data=wine"], "--config-dir: stands between settings; put all flags first"),
    Case(["-m", "seed=1,2", "--config-dir=.", "name=a"], "--config-dir: stands between settings; put all flags first"),
    Case(["tags=[[1]]"], "tags=[[1]]: must be a name"),
    Case(["tags=[{a:1}]"], "tags=[{'a': 1}]: must be a name"),
    Case(["imports=[null]"], "imports[0]=null: needs a value"),
    Case(["logger.wandb.entity=a/b"], "logger.wandb.entity=a/b: must be a name of 1 to 128 characters"),
    Case(["seed=-1"], "at least 0"),
    Case(["seed=4294967296"], "must be below 4294967296"),
    Case(["objective=test/acc"], "choose from train/loss"),
    Case(["data=diabetes", "objective=val/acc"], "choose from train/loss"),
    Case(
        ["trainer.limit_val_batches=0"],
        "objective=val/loss: there is no validation with trainer.limit_val_batches=0; choose train/loss",
    ),
    Case(["trainer.limit_val_batches=0.0", "objective=val/acc"], "objective=val/acc: there is no validation with"),
    Case(["trainer.barebones=true"], "trainer.barebones=True: must be false, because"),
    Case(["trainer.check_val_every_n_epoch=31"], "check_val_every_n_epoch=31 and trainer.max_epochs=30"),
    Case(["trainer=ddp_cpu", "trainer.devices=99"], "must be at most data.batch_size=32"),
    Case(["data.batch_size=0"], "1 or more, or full"),
    Case(["data.batch_size=half"], "1 or more, or full"),
    Case(["data.batch_size=1.5"], "1 or more, or full"),
    Case(["data.batch_size=[1]"], "1 or more, or full"),
    Case(["data.val_fraction=0"], "data.val_fraction=0.0: must be above 0"),
    Case(["data.val_fraction=0.6", "data.test_fraction=0.6"], "below 1"),
    Case(
        ["data=wine", "data.test_fraction=0.01"], "leave 1 of the 178 samples of data=wine to test; it needs 6 or more"
    ),
    Case(["data.test_fraction=0"], "data=digits has no test split of its own; must be above 0"),
    Case(["data.split_seed=-1"], "data.split_seed=-1: must be at least 0"),
    Case(["data.split_seed=4294967296"], "data.split_seed=4294967296: must be below 4294967296"),
    Case(["data=minst"], "did you mean mnist"),
    Case(["data.path=my.csv"], "data.path: data=digits has no such key; it belongs to data=table"),
    Case(["data.augment=flip"], "it belongs to data=mnist or data=fashion_mnist"),
    Case(["data=mnist", "data.augment=rotate"], "choose from none, shift, flip, crop"),
    Case(["data=mnist", "data.test_fraction=0.1"], "has its own test split; must be 0"),
    Case(["data=teacher", "data.samples=10"], "it needs 2 or more"),
    Case(["data=teacher", "data.features=0"], "data.features=0: must be at least 1"),
    Case(["data=teacher", "data.outputs=0"], "data.outputs=0: must be at least 1"),
    Case(["data=teacher", "data.hidden=[0]"], "data.hidden=[0]: must be at least 1"),
    Case(["data=teacher", "data.features=99999999999"], "data.features=99999999999: must be at most 2147483647"),
    Case(["data=teacher", "data.samples=2000000000", "data.features=1000000"], "do not fit into memory"),
    Case(["data.device=gpu"], "choose from auto, accelerator, cpu"),
    Case(["compile=true", "model.gradient=autograd"], "compile=true: does not support model.gradient=autograd"),
    Case(["compile=true", "trainer.gradient_clip_val=1"], "compile=true: does not support trainer.gradient_clip_val"),
    Case(["compile=true", "trainer.precision=bf16-mixed"], "mixed precision is not implemented"),
    Case(["compile=true", "trainer=ddp_cpu"], "several devices; use one"),
    Case(["compile=true", "trainer.accumulate_grad_batches=2"], "it updates after every batch"),
    Case(["name=[1]"], "name: "),
    Case(["model.loss=${nowhere}"], "not found"),
    Case(["+optimizer.nesterov=true"], "no such key"),
    Case(["+trainer.nonsense=1"], "no such key"),
    Case([f"name='{'n' * 5000}'", "seed=x"], "seed=x: must be a whole number"),
]
SYNTAX = [
    Case(["model.hidden=[["], "must be key=value"),
    Case(["seed"], "must be key=value"),
    Case(["seed=\x1b[31m"], "seed"),
    Case([f"seed={'9' * 5000}"], "seed"),
    Case(["optimizer==3"], "optimizer==3: must be key=value; a value is"),
    Case(["data=[wine"], "data=[wine: must be key=value; a value is"),
    Case(["seed=1,2"], "seed=1,2: has several values; add -m to sweep over them"),
]
# Values that fit the schema, and are refused where they are used.
USED = [
    Case(["trainer.accelerator=tpu"], "; use trainer=auto"),
    Case(["ckpt_path=auto"], "ckpt_path=auto: name the run's folder too"),
]
TRAINER = [
    Case([f"trainer.{setting}"], f"trainer.{setting.partition('=')[0]}")
    for setting in (
        "accelerator=npu", "devices=0", "devices=-2", "devices=two", "devices=[]", "devices=[0,0]", "devices=[-1]",
        "devices=1.5", "devices={a:1}", "strategy=dpp", "num_nodes=0", "precision=8", "max_epochs=0", "max_epochs=-2",
        "min_epochs=-1", "min_epochs=31", "max_steps=0", "max_steps=-2", "min_steps=-1", "max_time=soon",
        "max_time=12:00", "max_time={hous: 1}", "max_time=5", "fast_dev_run=-1", "fast_dev_run=some",
        "limit_train_batches=some", "limit_train_batches=1.5",
        "limit_train_batches=0", "limit_train_batches=-1", "limit_val_batches=-0.5",
        "limit_test_batches=[1]", "limit_predict_batches=two", "limit_val_batches=true", "overfit_batches=2.5",
        "overfit_batches=null_", "val_check_interval=0", "val_check_interval=1.5", "val_check_interval=often",
        "check_val_every_n_epoch=0", "check_val_every_n_epoch=null", "num_sanity_val_steps=-2", "log_every_n_steps=-1",
        "accumulate_grad_batches=0", "gradient_clip_val=-1", "gradient_clip_val=nan", "gradient_clip_algorithm=median",
        "deterministic=maybe", "profiler=fast", "reload_dataloaders_every_n_epochs=-1",
    )
]  # fmt: skip
HYDRA = [
    Case(["data=null"], "data=null: must be the name of a choice: breast_cancer, cifar10"),
    Case(["optimizer=[true]"], "optimizer=[true]: must be the name of a choice: adam, adamw, custom, sgd"),
    Case(["optimizer=[sgd,adam]"], "optimizer=[sgd,adam]: must be the name of a choice: adam"),
    Case(["data", "=", "wine"], "no spaces around = are allowed"),
    Case(["callbacks.audit=5"], "callbacks.audit: must have keys, as in callbacks.audit.KEY=VALUE, or be null"),
    Case(["-m", "hydra/launcher=population", "+hydra.launcher.foo=3", "seed=0,1"], "hydra.launcher.foo: no such key"),
    Case(["-m", "search=optuna", "hydra.sweeper.params={optimizer.lr:range(1,3)}"], "must be a string, as in"),
    *(
        Case([f"~{name}"], f"~{name}: cannot be deleted; give it another value")
        for name in (
            "seed",
            "model.hidden",
            "trainer.max_epochs",
            "callbacks.progress_bar",
            "optimizer",
            "model",
            "hydra",
        )
    ),
    *(
        Case([argument], f"{argument}: is only for sweeps; add -m")
        for argument in (
            "hydra/launcher=population",
            "hydra/launcher=joblib",
            "search=optuna",
            "search=grid",
            "hydra/sweeper=optuna",
            "hydra.sweeper.n_trials=3",
            "hydra.launcher.max_runs=3",
            "hydra.sweep.dir=sweep",
        )
    ),
    Case(["hydra=[]"], "must be the name of a choice: default"),
    Case(["-m", "hydra/launcher=popul"], "hydra/launcher=popul: no such choice (did you mean population?)"),
    Case(
        ["-m", "search=optuna", "hydra.sweeper.params=3"], "hydra.sweeper.params=3: must be a dict from keys to values"
    ),
    Case(["-m", "search=optuna", "+hydra.sweeper.foo=3"], "hydra.sweeper.foo: no such key; choose from params, n_tri"),
    Case(["-m", "+hydra.sweeper.foo=3", "seed=0,1"], "hydra.sweeper.foo: no such key; choose from params"),
    Case(["-m", "hydra/sweeper=tpe"], "hydra/sweeper=tpe: no such choice; choose from basic, grid, optuna"),
    Case(["experiment=gradient"], "did you mean gradient_descent?"),
    Case(["debug=slow"], "debug=slow: no such choice"),
    Case(["-m", "hydra.launcher=null", "seed=1,2"], "hydra.launcher=null: a launcher is needed"),
    Case(["hydra.run.dir=null"], "hydra.run.dir=null: needs a value"),
    Case(["hydra.run.dir="], "hydra.run.dir=: must be the name of a folder"),
    Case(["hydra.run.dir=[1]"], "hydra.run.dir: Cannot convert"),
    Case(["hydra.run.dir=${nowhere}"], "hydra.run.dir: Interpolation key 'nowhere' not found"),
    Case(["hydra.run.dir=/proc/nowhere"], "/proc/nowhere"),
    Case(["hydra.run.dir=t.csv"], "hydra.run.dir=t.csv: t.csv is not a folder", files.csv()),
    Case(["hydra.run.dir=t.csv/run"], "hydra.run.dir=t.csv/run: t.csv is not a folder", files.csv()),
    Case([f"hydra.run.dir={'a' * 300}"], "cannot be a folder (File name too long)"),
    Case(
        ["hydra.run.dir=run", "ckpt_path=auto"],
        "holds a run with another configuration, or a damaged one",
        files.both(files.run_folder("a: ["), files.directory("run/checkpoints")),
    ),
    Case(["hydra.run.dir=run"], "holds a run already, and nothing is overwritten", files.run_folder("")),
    Case(["hydra.job.chdir=maybe"], "hydra.job.chdir=maybe: must be true or false"),
    Case(["hydra.mode=MULTI"], "hydra.mode: Invalid value 'MULTI'"),
    Case(["hydra.verbose=[[a]]"], "hydra.verbose=[[a]]: cannot be composed"),
    Case(["hydra.rn.dir=x"], "hydra.rn"),
    Case(["-x"], "unrecognized arguments: -x"),
    Case(["--cfg", "jb"], "invalid choice: 'jb'"),
    Case(["--config-name", "nowhere"], "Cannot find primary config 'nowhere'"),
    Case(["--config-dir", "nowhere"], "not found"),
    Case(["--config-path=mine"], "--config-path=mine: must be conf/; --config-dir adds your own folder"),
    Case(["--multirun", "--cfg", "job"], "Only one of"),
    Case(["-m", "hydra.sweep.dir=/proc/x", "seed=1,2"], "hydra.sweep.dir=/proc/x: cannot be created"),
    Case(["-m", "hydra.sweep.dir=null", "seed=1,2"], "hydra.sweep.dir=null: needs a value"),
    Case(["-m", "hydra.sweep.dir=t.csv", "seed=1,2"], "t.csv: cannot be created (File exists)", files.csv()),
    Case(["-m", "hydra.sweep.subdir=null", "seed=1,2"], "hydra.sweep.subdir=null: needs a value"),
]

# Config files of the user's own, refused like the same settings on the command line.
OWN_CHOICES = [
    Case(["--config-dir", ".", f"{group}=mine"], says, files.text(content, f"{group}/mine.yaml"))
    for group, content, says in (
        (
            "experiment", "# @package _global_\noptimizer: {lrr: 1}",
            "experiment/mine.yaml: optimizer.lrr: no such key (did you mean lr?); optimizer has name, lr, momentum",
        ),
        ("experiment", "optimizer: {lr: 1}", "experiment/mine.yaml: its first line must be # @package _global_"),
        ("debug", "seed: 1", "debug/mine.yaml: its first line must be # @package _global_"),
        ("optimizer", "defaults: [sgd, _self_]\nlrr: 1", "optimizer/mine.yaml: optimizer.lrr: no such key"),
        ("optimizer", "defaults: [sdg]", "In 'optimizer/mine': Could not load 'optimizer/sdg'."),
        ("callbacks", "audit: {evry: 1}", "callbacks/mine.yaml: callbacks.audit.evry: no such key (did you mean"),
        ("callbacks", "adit: {every: 1}", "callbacks.adit: no such key (did you mean audit?)"),
        ("optimizer", "_target_: torch.optim.RMSprop\nlr: 1", "your own file must begin with defaults: [custom"),
        ("optimizer", "", "optimizer: the choice has no schema; your own file must begin with defaults: [custom"),
        ("optimizer", "- lr", "optimizer/mine.yaml: must have keys with values, as in lr: 0.1"),
        ("model", "hidden: 5", "model/mine.yaml: model.hidden: must be a list, such as [64]"),
        ("trainer", "max_epochs: many", "trainer/mine.yaml: trainer.max_epochs=many: must be a whole number"),
    )
]  # fmt: skip
OWN_CHOICES.append(
    Case(
        ["--config-dir", ".", "optimizer=adam"],
        "--config-dir=.: optimizer/adam.yaml is a choice of conf/ already; give it another name",
        files.text("lr: 3", "optimizer/adam.yaml"),
    )
)


def of_table(arguments: list[str], says: str, make: files.Make, name: str = "t.csv") -> Case:
    """A table with the target `y`, unless the arguments name another one."""
    target = [] if any("target" in argument for argument in arguments) else ["data.target=y"]
    return Case(["data=table", f"data.path={name}", *target, *arguments], says, make)


def of_parquet(arguments: list[str], says: str, make: files.Make) -> Case:
    return of_table(arguments, says, make, "t.parquet")


ROWS = "a,b,y\n" + "".join(f"{i},{i % 7},{i % 5}\n" for i in range(files.N))
TABLES = [
    Case(["data=table"], "data.path: missing; data=table needs it"),
    Case(["data=table", "data.path=t.csv"], "data.target: missing; data=table needs it", files.csv()),
    Case(["data=table", "data.path=nowhere.csv", "data.target=y"], "data.path=nowhere.csv: no such file"),
    Case(["data=table", "data.path=", "data.target=y"], "data.path"),
    of_table(["data.task=regression"], "choose from auto, classes, number", files.csv()),
    of_table(["data.missing=zero"], "choose from refuse, mean, median", files.csv()),
    of_table([], "is a folder", files.directory("t.csv")),
    of_table([], "is not a file, but a pipe", files.pipe("t.csv")),
    of_table([], "Too many levels of symbolic links", files.symlink_loop),
    of_table([], "must end in .csv", files.text("", "t.xlsx"), "t.xlsx"),
    of_table([], "has no rows", files.text("")),
    of_table([], "has no rows", files.text("\n\n\n")),
    of_table([], "needs 10 rows or more, has 0", files.text("a,b,y\n")),
    of_table([], "needs 10 rows or more, has 1", files.text("a,b,y\n1,2,3\n")),
    of_table([], "needs two or more, separated by commas", files.text(ROWS.replace(",", ";"))),
    of_table([], "two columns are named 'a'", files.text(ROWS.replace("a,b", "a,a"))),
    of_table([], "column 1 has no name", files.text(ROWS.replace("a,b", ",b"))),
    of_table([], "Expected 3 columns, got 2", files.text(ROWS + "1,2\n")),
    of_table([], "Expected 3 columns, got 4", files.text(ROWS + "1,2,3,4\n")),
    of_table([], "'a' mixes text with numbers", files.text(ROWS.replace("\n3,", "\nthree,"))),
    of_table([], "'b' has dates", files.with_column("b", [f"2024-01-{i % 28 + 1:02}" for i in range(files.N)])),
    of_table([], "(an id?)", files.with_column("b", [f"id{i}" for i in range(files.N)])),
    of_table([], "'b' has 1; fill them in", files.with_column("b", np.where(np.arange(files.N) == 3, np.nan, 1))),
    of_table([], "must be finite", files.with_column("b", np.where(np.arange(files.N) == 3, np.inf, 1))),
    of_table([], "must be finite", files.with_column("y", np.where(np.arange(files.N) == 3, -np.inf, 1))),
    of_table([], "row 3 (from 0) is 1e+300", files.with_column("b", np.where(np.arange(files.N) == 3, 1e300, 1))),
    of_table([], "'b' has 40", files.with_column("b", None)),
    of_table([], "'y' has 40; must be given for every row", files.with_column("y", None)),
    of_table([], "has only one value, '1'", files.with_column("y", 1)),
    of_table([], "has only one value, 'yes'", files.with_column("y", "yes")),
    of_table([], "class 'rare' has 1", files.with_column("y", ["rare", *["no", "yes"] * 19, "no"])),
    of_table(["data.target=z"], "data.target=z: no such column", files.csv()),
    of_table(["data.target=A"], "did you mean a?", files.csv()),
    of_table(["data.weight=w"], "data.weight=w: no such column", files.csv()),
    of_table(["data.weight=y"], "is the target", files.csv()),
    of_table(["data.ignore=[y]"], "is the target", files.csv()),
    of_table(["data.ignore=[c]"], "data.ignore=c: no such column", files.csv()),
    of_table(["data.ignore=[a,b]"], "no feature columns are left", files.csv()),
    of_table(["data.weight=b"], "is -1", files.with_column("b", -1)),
    of_table(["data.weight=b"], "every training row has 0", files.with_column("b", 0)),
    of_table(["data.task=number"], "'y' must hold numbers", files.with_column("y", ["no", "yes"] * 20)),
    of_table(["data.task=classes"], "class", files.csv()),
    of_table(["model.loss=cross_entropy", "data.task=number"], "is for classes", files.csv()),
    of_table(["model.loss=poisson_nll"], "is for counts", files.csv()),
    of_table(["objective=val/acc"], "choose from train/loss", files.csv()),
    of_table([], "line 2 is not UTF-8", files.text(ROWS.replace("0,0,0", "0,é,0").encode("latin-1"))),
    of_table([], "line 1 is not UTF-8", files.text(ROWS.encode("utf-16"))),
    of_table([], "has a NUL byte", files.text(ROWS.encode("utf-16-le"))),
    of_table([], "line 42 has a NUL byte", files.text(ROWS.encode() + b"1,\0,3\n")),
    of_table([], "line 2 has 16777216 bytes or more", files.gigabyte("a,b,y\n1,")),
    of_table([], "line 2 has 16777216 bytes or more", files.long_line),
    of_table([], "line 2 has 16777216 bytes or more", files.packed_line, "t.csv.gz"),
    of_table([], "cannot be read", files.text(ROWS, "t.csv.gz"), "t.csv.gz"),
    of_table([], "cannot be read", files.text(gzip.compress(ROWS.encode() * 99, mtime=0)[:99], "t.csv.gz"), "t.csv.gz"),
    of_table([], "not UTF-8", files.renamed(files.parquet(), "t.parquet", "t.csv")),
    of_table(
        [],
        "'c7' has 40",
        files.csv(lambda frame: frame.join(pd.DataFrame(np.ones((files.N, 10_000))).add_prefix("c")).assign(c7=None)),
    ),
    of_parquet([], "cannot be read", files.renamed(files.csv(), "t.csv", "t.parquet")),
    of_parquet([], "cannot be read", files.text("", "t.parquet")),
    of_parquet([], "cannot be read", files.text("PAR1 no more", "t.parquet")),
    of_parquet([], "cannot be read", files.cut(files.parquet(), "t.parquet", 0.5)),
    of_parquet([], "cannot be read", files.cut(files.parquet(), "t.parquet", 0.999)),
    of_parquet([], "needs 10 rows or more, has 0", files.parquet(lambda frame: frame[:0])),
    of_parquet([], "'c' has values of type list", files.nested("list")),
    of_parquet([], "'c' has values of type struct", files.nested("struct")),
    of_parquet([], "'c' has values of type map", files.nested("map")),
    of_parquet([], "'c' has values of type binary", files.nested("binary")),
    of_parquet([], "has dates or times", files.parquet(lambda frame: frame.assign(b=pd.Timestamp("2024-01-01")))),
    of_parquet([], "must be finite", files.parquet(lambda frame: frame.assign(b=np.inf))),
    of_parquet(["data.target=z"], "data.target=z: no such column", files.parquet()),
]
IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = range(4)
IMAGE_FILES = [
    Case(["data=mnist"], says, make)
    for says, make in (
        ("is not an IDX file of 28 x 28 images", files.mnist(IMAGES, lambda content: content[:-1])),
        ("is not an IDX file of 28 x 28 images", files.mnist(IMAGES, lambda content: content[:7])),
        ("is not an IDX file of 28 x 28 images", files.mnist(IMAGES, files.header(0, 2050))),
        ("is not an IDX file of labels", files.mnist(LABELS, files.header(0, 2051))),
        ("is not an IDX file of 28 x 28 images", files.mnist(IMAGES, files.header(1, 2**32 - 1))),
        ("is not an IDX file of labels", files.mnist(LABELS, files.header(1, 201))),
        ("is not an IDX file of 28 x 28 images", files.mnist(TEST_IMAGES, files.header(2, 2**31))),
        ("is not an IDX file of 28 x 28 images", files.mnist(IMAGES, lambda content: b"")),
        ("is not an IDX file of labels", files.mnist(LABELS, lambda content: b"text" * 100)),
        ("label 199 (from 0) is 77; must be 0 to 9", files.mnist(LABELS, lambda content: content[:-1] + b"\x4d")),
        ("some files are missing in", files.lacking(LABELS)),
        ("some files are missing in", files.lacking(IMAGES, TEST_IMAGES, TEST_LABELS)),
    )
]
IMAGE_FILES += [
    Case(["data=mnist"], "is damaged or not the original file", files.mnist(packed=True)),
    Case(["data=mnist", "data.dir=t.csv"], "data.dir=t.csv: t.csv is a file; must be a folder", files.csv()),
    Case(["data=mnist", "data.dir=t.csv/data"], "t.csv is a file; must be a folder", files.csv()),
]
CHECKPOINTS = [
    Case(["ckpt_path=c.ckpt", *arguments], says, make)
    for arguments, says, make in (
        ([], "no such file", None),
        ([], "is a folder; name a checkpoint in it", files.directory("c.ckpt")),
        ([], "is not a file, but a pipe", files.pipe("c.ckpt")),
        ([], "is not a checkpoint, or is damaged", files.text("", "c.ckpt")),
        ([], "is not a checkpoint, or is damaged", files.text("not a checkpoint", "c.ckpt")),
        ([], "is not a checkpoint, or is damaged", files.cut(files.checkpoint(), "c.ckpt", 0.5)),
        ([], "is not a checkpoint, or is damaged", files.zipped(notes="nothing of the kind")),
        ([], "holds more than plain data, or is damaged", files.zipped()),
        ([], "is not a checkpoint of this program", files.saved([1, 2])),
        ([], "is not a checkpoint of this program", files.saved({"state_dict": {}})),
        ([], "holds more than plain data", files.saved({"state_dict": {}, "hyper_parameters": files.Trap()})),
        ([], "was trained with sizes=[64, 32, 10], this run has [64, 64, 10]", files.checkpoint(sizes=[64, 32, 10])),
        (["data=wine"], "was trained with sizes=[64, 64, 10], this run has [13, 64, 3]", files.checkpoint()),
        ([], "was trained with hidden_activation=relu", files.checkpoint(hidden_activation="relu")),
        ([], "was trained on another table", files.checkpoint(preprocessing={"columns": []})),
        (["optimizer=adam"], "was trained with optimizer=sgd, this run has optimizer=adam", files.checkpoint()),
        (["scheduler=cosine"], "was trained with scheduler=none", files.checkpoint()),
        (["trainer.max_epochs=5"], "was trained for 5 epochs already", files.checkpoint()),
    )
]
SCRIPTS = [
    Case(arguments, says, make, f"scripts/{script}.py")
    for script, arguments, says, make in (
        ("evaluate", [], "run: must be given", None),
        ("evaluate", ["run=nowhere"], "no such folder", None),
        ("evaluate", ["run=."], "no .hydra/config.yaml", None),
        ("evaluate", ["run"], "must be key=value", None),
        ("evaluate", ["rn=."], "did you mean run", None),
        ("evaluate", ["run=.", "split=tset"], "did you mean test", None),
        ("evaluate", ["run=.", "input=new.csv", "split=test"], "give one of the two", None),
        ("evaluate", ["run=.", "input=new.csv", "unknown=zero"], "did you mean zeros", None),
        ("evaluate", ["run=.", "unknown=zeros"], "is for new rows; give input=FILE, too", None),
        ("evaluate", ["run=run"], "config.yaml: ", files.run_folder("a: [")),
        ("evaluate", ["run=run"], "is not a configuration", files.run_folder("[1]")),
        ("evaluate", ["run=run"], "more than 50 levels deep", files.run_folder("[" * 3000 + "]" * 3000)),
        ("evaluate", ["run=run"], "config.yaml: ", files.run_folder("seed: x")),
        ("gradcheck", ["folder=nowhere"], "no such folder", None),
        ("gradcheck", ["folder=/proc"], "folder=/proc: cannot be written to", None),
        ("derive", ["format=pdf"], "choose from terminal, latex, markdown, html", None),
        ("derive", ["model.hidden=64"], "must be a list", None),
        ("derive", ["model.hiden=[64]"], "did you mean model.hidden", None),
        ("derive", ["output=nowhere/derivation.tex"], "there is no folder nowhere", None),
        ("derive", ["model=mlp"], "no such key", None),
    )
]
OF_THE_SCHEMA = [*TYPES, *NEEDED, *VALUES, *TRAINER]
CASES = [*OF_THE_SCHEMA, *SYNTAX, *MISSPELT, *USED, *HYDRA, *OWN_CHOICES, *TABLES, *IMAGE_FILES, *CHECKPOINTS, *SCRIPTS]
MOST_MEMORY = 2 << 20  # KiB; torch and Lightning take 0.7 GiB


def name_of(case: Case) -> str:
    made = getattr(case.make, "__qualname__", "").partition(".")[0]
    return f"{Path(case.script).stem} {' '.join(case.arguments)} {made}".encode("ascii", "replace").decode()[:100]


def content_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every path in the folder with its size and, for files, its time; a lock changes the time of a folder."""
    found = {path: path.lstat() for path in folder.rglob("*")}
    return {str(path): (each.st_size, 0 if path.is_dir() else each.st_mtime_ns) for path, each in found.items()}


def check_line(case: Case, line: str) -> None:
    assert line.count("\n") == 1, line
    assert line.startswith(f"{Path(case.script).name}: ")
    assert line.rstrip("\n").isprintable()
    assert case.says in line


# Only `key=value` for a key of the schema.
OF_ONE_VALUE = [
    case for case in OF_THE_SCHEMA if len(case.arguments) == 1 and case.arguments[0].partition("=")[0] in KEYS
]


@functools.cache
def composed() -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train")


@pytest.mark.parametrize("case", OF_ONE_VALUE, ids=name_of)
def test_a_value_is_refused_in_one_line(case):
    """The configuration is composed once, because the cases differ in one value."""
    override = OverridesParser.create().parse_override(case.arguments[0])

    def use() -> None:
        config = copy.deepcopy(composed())
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        parse_config(config)

    with pytest.raises(USER_ERRORS) as refused:
        use()
    assert one_line(refused.value).isprintable()
    assert case.says in one_line(refused.value)


# Commands of their own; two of three are for the stress run alone.
COMMANDS = [
    pytest.param(case, id=name_of(case), marks=[pytest.mark.stress] if number % 3 else [])
    for number, case in enumerate(case for case in CASES if case not in OF_ONE_VALUE)
]


@pytest.mark.slow
@pytest.mark.parametrize("case", COMMANDS)
def test_bad_input_is_refused_in_one_line(command_here, tmp_path, case):
    if case.make is not None:
        case.make(tmp_path)
    before = content_of(tmp_path)
    with peak_memory() as peak:
        refused = command_here(case.script, *case.arguments)
    assert (refused.returncode, refused.stdout) == (1, ""), refused.stderr
    check_line(case, refused.stderr)
    assert peak.kib < MOST_MEMORY
    assert content_of(tmp_path) == before


def test_every_key_of_the_schema_is_given_a_wrong_value():
    given = {argument.lstrip("+").partition("=")[0] for case in CASES for argument in case.arguments}
    assert not (KEYS.keys() | OF_CHOICES.keys()) - given
    assert len(CASES) >= 200


@pytest.mark.parametrize(
    "case",
    [
        *(TYPES[0], NEEDED[0], MISSPELT[0], VALUES[0], TRAINER[0], HYDRA[0], OWN_CHOICES[0]),
        *(TABLES[2], CHECKPOINTS[4], SCRIPTS[0]),
    ],
    ids=name_of,
)  # fmt: skip
def test_the_real_command_refuses_one_of_each_kind_before_torch_is_imported(tmp_path, case):
    if case.make is not None:
        case.make(tmp_path)
    before = content_of(tmp_path)
    told = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / case.script), *case.arguments],
        cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    *imported, line = told.stderr.splitlines(keepends=True)
    assert (told.returncode, told.stdout) == (1, "")
    check_line(case, line)
    assert imported
    assert not [each for each in imported if each.rstrip().endswith(("| torch", "| lightning", "| pandas"))]
    assert content_of(tmp_path) == before


@pytest.mark.slow
def test_what_only_the_trainer_can_refuse_leaves_no_folder_either(command, tmp_path):
    result = command("train.py", "trainer=gpu", CUDA_VISIBLE_DEVICES="")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.stderr
    assert "gpu" in result.stderr
    assert result.stderr.endswith("; use trainer=auto\n")
    assert not list(tmp_path.iterdir())
