"""Secrets: what counts as one, refused settings, and output with *** in place of secrets."""

import io
import json
import logging
import os

import pytest
import yaml

from backhand.config.confidential import (
    check_nothing_confidential,
    mask_logs,
    masked,
    secrets,
    without_secrets,
)
from backhand.errors import UserError
from backhand.reporting import folder as folders
from backhand.reporting import loggers
from backhand.reporting.report import write_report
from backhand.reporting.result import Result, write_result
from backhand.sweeps.sweep import failed

KEY = "5ec2e7" * 6 + "abcd"  # as long as one of W&B's
SHORT = "tr0ub4dor&3"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in [*secrets(), *(each for each in os.environ if each.startswith("WANDB_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("DATABASE_PASSWORD", SHORT)
    monkeypatch.setenv("POSTGRES_PASSWORD", "postgres")
    monkeypatch.setenv("ADMIN_PASSWD", "password1")
    monkeypatch.setenv("PIN_TOKEN", "20260131")
    monkeypatch.setenv("EMPTY_TOKEN", "")
    monkeypatch.setenv("EDITOR", "an-editor-with-a-long-name")


def test_short_and_common_values_are_not_secrets():
    assert secrets() == {"WANDB_API_KEY": KEY, "DATABASE_PASSWORD": SHORT}


@pytest.mark.parametrize("value", ["0123456789abcdef", "abcdefghijklmnop", "1234567890123456"])
def test_a_long_value_is_a_secret_whatever_its_characters(monkeypatch, value):
    monkeypatch.setenv("X_SECRET", value)
    assert secrets()["X_SECRET"] == value
    monkeypatch.setenv("X_SECRET", value[:-1] if value.isalpha() or value.isdigit() else "short")
    assert "X_SECRET" not in secrets()


REFUSED = {
    KEY: "holds the value of WANDB_API_KEY",
    f"runs/{KEY}-notes": "holds the value of WANDB_API_KEY",
    SHORT: "holds the value of DATABASE_PASSWORD",
    f" {SHORT} ": "holds the value of DATABASE_PASSWORD",
    "https://me:hidden@host/x": "holds a URL with a user name or password",
    "https://hidden@host": "holds a URL with a user name or password",
    "https://host/x?token=hidden": "holds a URL with a key or token",
}


@pytest.mark.parametrize("value", REFUSED)
def test_a_setting_with_a_secret_is_refused_without_showing_it(value):
    with pytest.raises(UserError) as refused:
        check_nothing_confidential([("seed", 1), ("name", value)])
    assert str(refused.value).startswith(f"name: {REFUSED[value]}")
    for secret in (KEY, SHORT, "hidden"):
        assert secret not in str(refused.value)


ALLOWED = [
    "postgres",
    "outputs/postgres-notes",
    "password1",
    "my password1",
    20260131,
    f"{SHORT}-notes",
    KEY[:-1],
    None,
]


@pytest.mark.parametrize("value", ALLOWED)
def test_short_and_common_values_are_allowed_and_not_masked(value):
    check_nothing_confidential([("name", value)])
    assert masked(value) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {KEY}, again {KEY}", "key ***, again ***"),
        (SHORT, "***"),
        ("at https://me:hidden@host/x?a=1&api_key=hidden", "at https://***@host/x?a=1&api_key=***"),
        ("name=x: must be a number", "name=x: must be a number"),
    ],
)
def test_secrets_in_a_text_are_masked(text, shown):
    assert without_secrets(text) == shown


def test_a_secret_that_contains_another_one_is_masked_completely(monkeypatch):
    monkeypatch.setenv("A_TOKEN", KEY[:20])
    assert without_secrets(f"x{KEY}x") == "x***x"


def test_secrets_in_dictionaries_and_lists_are_masked():
    tree = {"a": [KEY, 1, None, {"b": (f"x {KEY}", 2.5)}], KEY: True}
    assert masked(tree) == {"a": ["***", 1, None, {"b": ["x ***", 2.5]}], "***": True}


def test_secrets_in_the_log_are_masked():
    written = io.StringIO()
    log = logging.Logger("own")
    log.addHandler(logging.StreamHandler(written))
    before = logging.getLogRecordFactory()
    mask_logs()
    try:
        try:
            raise RuntimeError(f"with {KEY}")
        except RuntimeError:
            log.exception("the key is %s, and %d", KEY, 3)
    finally:
        logging.setLogRecordFactory(before)
    assert written.getvalue().startswith("the key is ***, and 3\nTraceback")
    assert written.getvalue().endswith("RuntimeError: with ***\n")


def test_secrets_in_result_json_are_masked(tmp_path, configured):
    name = f"val/{KEY}"
    write_result(Result("failed", {"name": name, "value": 1.0}, error=f"no {KEY}"), configured(), tmp_path)
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["error"], record["objective"]["name"]) == ("no ***", "val/***")
    assert failed(f"no {KEY}")["error"] == "no ***"


def test_a_report_does_not_show_secrets_in_its_folder(tmp_path):
    for path in (tmp_path, tmp_path / "0"):
        (path / ".hydra").mkdir(parents=True)
        (path / ".hydra" / "config.yaml").write_text(yaml.safe_dump({"name": SHORT, "tags": [f"a {KEY}"], "seed": 1}))
        (path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([f"tags=[a {KEY}]", "seed=postgres"]))
        (path / "result.json").write_text(json.dumps({"status": "failed", "error": f"no {KEY}"}))
    run = folders.read_run(tmp_path)
    assert (run.settings["name"], run.settings["tags"], run.settings["seed"]) == ("***", "[a ***]", "1")
    (tmp_path / "sweep.json").write_text(json.dumps({"sweep": {}, "jobs": [], "overrides": [f"tags={KEY}"]}))
    (tmp_path / "sweep.csv").write_text(f"job,name,status,error\n0,{KEY},failed,x\n1,{KEY},failed,no {KEY}\n")
    sweep = folders.read_sweep(tmp_path)
    assert (sweep.overrides, sweep.runs.loc[1, "error"]) == (["tags=***"], "no ***")
    for place, out in ((tmp_path / "0", "run.html"), (tmp_path, "sweep.html")):
        write_report([place], tmp_path / out)
        text = (tmp_path / out).read_text()
        assert KEY not in text
        assert SHORT not in text
        assert "***" in text


def test_wandb_gets_no_secret(tmp_path, monkeypatch, configured):
    started = []
    monkeypatch.setattr(loggers, "_start", lambda arguments, mode, resumed: started.append(arguments))
    monkeypatch.setattr(loggers, "_stage_in", lambda folder: None)
    for variable in ("WANDB_NAME", "WANDB_NOTES", "WANDB_RUN_GROUP"):
        monkeypatch.setenv(variable, f"{variable} {KEY}")
    config = configured("logger=wandb", "logger.wandb.mode=offline")
    config.tags = [KEY, "postgres"]
    loggers.build_loggers(config, tmp_path / KEY)
    (told,) = started
    assert (told["name"], told["notes"], told["group"]) == ("WANDB_NAME ***", "WANDB_NOTES ***", "WANDB_RUN_GROUP ***")
    assert told["tags"] == told["config"]["tags"] == ["***", "postgres"]
    assert told["dir"] == str(tmp_path / KEY)  # a path is not masked
    config.name = "own"
    loggers.build_loggers(config, tmp_path)
    assert started[-1]["name"] == "own"
