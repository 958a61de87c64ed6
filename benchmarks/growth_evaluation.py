"""Evaluations of runs on cohorts of several sizes, for `benchmarks.scaling.measure`."""

from pathlib import Path

from benchmarks.scaling import Task
from configs import smoke
from kneefair_jax.data import pipeline
from kneefair_jax.runs import experiment
from kneefair_jax.training import stages

SIZES = (1_000, 10_000, 100_000)
SIDE = 32  # pixels
BATCH = 32


def trained_run(folder: Path, cases: int) -> list[str]:
    """Prepare a cohort of phantoms, train one step, and return the command line of the run's evaluation.

    Args:
        folder: where the run's folder is created.
        cases: of the test split; a twentieth as many are trained on, and as many validated.
    """
    config = smoke.get_config()
    config.data.size = (SIDE, SIDE)
    config.data.phantom.patients = round(cases * 1.1)
    config.data.fractions = (0.05 / 1.1, 0.05 / 1.1, 1 / 1.1)
    config.train.update({"steps": 1, "batch_size": BATCH})
    workdir = folder / "run"
    run, main, _ = experiment.prepare_run(
        config, workdir, workdir / "store", training=True, on_read_error="stop"
    )
    workdir.mkdir(exist_ok=True)
    experiment._open_run(config, workdir, main)
    stages.train(config, main.cohort, pipeline.CachedCases(main.cases), workdir, run)
    return ["-m", "kneefair_jax.cli", "evaluate", str(workdir)]


TASK = Task("evaluate", SIZES, trained_run)
