"""Runs that are ended again and again at random moments, in every way, and go on to the bits they would have had.

`python -m pytest -m stress tests/stress/test_kills.py`
"""

import os
import random
import signal
import time

import pytest
from tests.cli.test_interruptions import ADAM, IMAGES, PLATEAU, WINE, assert_same
from tests.data.image_files import random_images, write_idx

pytestmark = pytest.mark.stress

LONGER = "trainer.max_epochs=40"
SETTINGS = {
    "adam, cosine": (*WINE, *ADAM, LONGER),
    "momentum, plateau": (*WINE, *PLATEAU, LONGER),
    "augmentation": (*IMAGES, "trainer.max_epochs=25"),
    "accumulation, 64-true": (*WINE, "trainer.accumulate_grad_batches=3", "trainer.precision=64-true", LONGER),
    "two processes": (*WINE, *ADAM, "trainer=ddp_cpu", "trainer.max_epochs=20"),
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", SETTINGS)
def test_a_run_that_is_ended_at_random_goes_on_to_the_same_bits(command, start, tmp_path, kind, seed):
    write_idx(tmp_path, random_images(300, (28, 28)), random_images(40, (28, 28), seed=1))
    began = time.monotonic()
    whole = command("train.py", *SETTINGS[kind], "hydra.run.dir=whole")
    took = time.monotonic() - began
    assert whole.returncode == 0, whole.stderr
    draw = random.Random(f"{kind} {seed}")
    run = (*SETTINGS[kind], "hydra.run.dir=run", "ckpt_path=auto")
    told = []
    for _ in range(4):
        process = start("train.py", *run)
        delay, sent = draw.uniform(0.2, 1.0) * took, draw.choice(SIGNALS)
        told.append(f"{sent.name} after {delay:.2f} s")
        deadline = time.monotonic() + delay
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.poll() is None:
            os.killpg(process.pid, sent)
        _, stderr = process.communicate(timeout=60)
        # Before anything is computed, it ends by the signal itself, or in the middle of an import.
        starting = not (tmp_path / "run" / "checkpoints").exists() or process.returncode == -sent
        assert starting or process.returncode in (0, 128 + sent), (told, stderr)
        assert starting or "Traceback" not in stderr, (told, stderr)
    rest = command("train.py", *run)
    assert rest.returncode == 0, (told, rest.stderr)
    assert_same(tmp_path / "run", tmp_path / "whole")
