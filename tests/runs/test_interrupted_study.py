"""Signals during a study: one line, finished runs are kept, and the same command makes the rest and the same page."""

import signal

import pytest

from kneefair_jax.runs import experiment, study
from kneefair_jax.runs.study_trials import trials
from kneefair_jax.runtime import command
from tests.runs import synthetic_study

pytestmark = pytest.mark.usefixtures("terminal_log")

REMEDIES = command.Remedies("--workdir", "close other programs", lambda: "the same command resumes")
RUNS = 4


@pytest.fixture(scope="module")
def config():
    return synthetic_study.config(
        methods=("erm", "equal_share"), seeds=(3, 4), oracle=False, sweep=(), sweep_methods=("erm",)
    )


def replace_runs(monkeypatch):
    """Return the list of the folders of runs that begin, and the dict of number -> what happens during that run."""
    began, events = [], {}
    monkeypatch.setattr("kneefair_jax.training.scoring.effort", lambda folder: (300, 2.0))

    def run(config, workdir, directory, training):
        began.append(workdir)
        print("training")
        events.get(len(began), lambda: None)()
        synthetic_study.one(config, workdir, directory, training)

    monkeypatch.setattr(experiment, "run_experiment", run)
    return began, events


@pytest.fixture
def calls(monkeypatch):
    return replace_runs(monkeypatch)


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory):
    """The files of a study without an interruption."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as monkeypatch:
        replace_runs(monkeypatch)
        assert start(config, folder) == 0
    return content(folder)


def start(config, workdir):
    def body():
        study.run_study(config, workdir)
        return 0

    return command.run(body, REMEDIES)


def content(folder):
    """Files of runs and of the study, without logs and without `started` in `environment.json`."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("log.txt", "environment.json")
    }


@pytest.mark.parametrize(
    ("number", "status"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 75)]
)
def test_a_signal_in_a_run_keeps_the_finished_ones(straight, calls, config, tmp_path, capsys, number, status):
    began, events = calls
    assert len(trials(config)) == RUNS
    events[3] = lambda: signal.raise_signal(number)
    capsys.readouterr()
    assert start(config, tmp_path / "study") == status
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert len(began) == 3 and not (tmp_path / "study/report").exists()
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").rglob("report.json")}
    assert sorted(path.parents[1] for path in finished) == sorted(began[:2])
    began.clear()
    events.clear()
    assert start(config, tmp_path / "study") == 0
    assert [folder.relative_to(tmp_path / "study") for folder in began] == [
        trial.directory for trial in trials(config)[2:]
    ]
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())
    assert content(tmp_path / "study") == straight


def test_a_signal_while_the_page_is_written(straight, calls, config, tmp_path, monkeypatch, capsys):
    began, _ = calls
    real = study.summary

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(study, "summary", interrupted)
        assert start(config, tmp_path) == 75
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "report").exists()
    assert start(config, tmp_path) == 0 and len(began) == RUNS
    assert content(tmp_path) == straight
