"""What the command has Hydra do around a job."""

from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus

from backhand.config.command import CONF


def test_hydra_keeps_no_configuration_of_a_job_that_is_done():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", return_hydra_config=True)
    done = JobReturn(["seed=1"], config, config, ".", "train", JobStatus.COMPLETED, 0.5)
    Callbacks(config).on_job_end(config=config, job_return=done)
    assert done == JobReturn(["seed=1"], None, None, ".", "train", JobStatus.COMPLETED, 0.5)
