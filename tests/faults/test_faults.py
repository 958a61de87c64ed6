"""What befalls a run, and that the one that goes on is the straight one; `benchmarks/faults.py` has the whole table."""

import errno
import os
import shutil
import signal

import chex
import jax
import pytest

from kneefair_jax.data import store
from kneefair_jax.errors import InputError
from kneefair_jax.runs import modes
from kneefair_jax.runtime import preemption, run_directory
from kneefair_jax.training import loop, metric_writer, setup
from kneefair_jax.training.checkpoint import Checkpoints
from tests.films import folder
from tests.launched import run_in_process
from tests.test_launch import command
from tests.training import study

pytestmark = pytest.mark.usefixtures("terminal_log")

CONFIG = {"steps": 7, "eval_every": 3, "log_every": 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    cohort = study.cohort()
    cases = store.prepare(cohort.source, cohort.grid, tmp_path_factory.mktemp("store"))
    return cohort, cases, setup.build(study.config(**CONFIG), cohort)


@pytest.fixture(scope="module")
def straight(prepared, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "straight"
    train(prepared, workdir)
    return workdir


@pytest.fixture
def signals(monkeypatch):
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    monkeypatch.setattr(preemption, "_has_notice", False)
    preemption.install_handlers()
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


def train(prepared, workdir, at=0, befalls=lambda: None):
    """Trains; `befalls` is called while step `at` is made."""
    cohort, cases, made = prepared
    workdir.mkdir(exist_ok=True)
    real = made.train_step

    def step(state, batch):
        if int(state.step) + 1 == at:
            befalls()
        return real(state, batch)

    start = jax.tree.map(lambda x: x.copy(), made.state)  # steps donate theirs
    loop.train(study.config(**CONFIG), made._replace(train_step=step, state=start), cohort, cases, workdir)


def assert_same(prepared, workdir, straight):
    states = []
    for run in (workdir, straight):
        checkpoints = Checkpoints(run / "checkpoints")
        states.append(checkpoints.restore(CONFIG["steps"], prepared[2].state)[0])
        checkpoints.close()
    chex.assert_trees_all_equal(*states)
    assert (workdir / "metrics.jsonl").read_text() == (straight / "metrics.jsonl").read_text()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGUSR1])
def test_a_notice_saves_the_step_at_hand(kind, prepared, straight, signals, tmp_path, monkeypatch):
    """Step 5 is neither an evaluation nor a line: what it said waits in the checkpoint for the line of step 6."""
    with pytest.raises(preemption.Preempted):
        train(prepared, tmp_path, at=5, befalls=lambda: os.kill(os.getpid(), kind))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() == 5 and [record["step"] for record in checkpoints.records()] == [3]
    checkpoints.close()
    assert metric_writer.read(tmp_path / "metrics.jsonl")[-1]["step"] == 4
    monkeypatch.setattr(preemption, "_has_notice", False)
    train(prepared, tmp_path)
    assert_same(prepared, tmp_path, straight)


def test_a_notice_outside_of_training_stops_at_once(signals):
    with pytest.raises(preemption.Preempted):
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(preemption.Preempted):
        preemption.check()
    with preemption.defer_preemption():
        preemption.check()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("how", [cut, flip])
def test_a_damaged_checkpoint_is_reported_and_trained_again(how, prepared, straight, tmp_path, capsys):
    """Orbax alone restores a flipped bit of an array's data as if nothing were."""
    workdir = shutil.copytree(straight, tmp_path / "run")
    files = (workdir / "checkpoints" / "7" / "state").glob("ocdbt*/d/*")
    how(max(files, key=lambda path: path.stat().st_size))
    checkpoints = Checkpoints(workdir / "checkpoints")
    with pytest.raises(InputError, match="the checkpoint of step 7 is damaged. Put a copy"):
        checkpoints.variables(7, prepared[2].state)
    checkpoints.close()
    train(prepared, workdir)
    said = capsys.readouterr().out
    assert (
        "has changed since it was written: the checkpoint of step 7 is damaged and now called damaged_7_0"
        in said
    )
    assert "continuing from step 6" in said
    assert_same(prepared, workdir, straight)


def test_scores_that_were_not_written_are_not_selected_by(straight, tmp_path):
    workdir = shutil.copytree(straight, tmp_path / "run")
    path = workdir / "checkpoints" / "6" / "metrics" / "metrics"
    path.write_text(path.read_text().replace("0.", "1.", 1))
    with pytest.raises(
        InputError, match="metrics has changed since it was written: the checkpoint of step 6"
    ):
        Checkpoints(workdir / "checkpoints")


def test_a_full_disk_loses_nothing(prepared, straight, tmp_path, monkeypatch):
    def write(self, record):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill():
        monkeypatch.setattr(metric_writer.MetricWriter, "write", write)

    with pytest.raises(OSError):
        train(prepared, tmp_path, at=5, befalls=fill)
    monkeypatch.undo()
    train(prepared, tmp_path)
    assert_same(prepared, tmp_path, straight)


def test_a_loss_that_is_not_finite_names_the_cases_of_its_step(prepared, tmp_path):
    cohort, cases, made = prepared
    real, seen = made.train_step, []

    def step(state, batch):
        state, metrics = real(state, batch)
        seen.append(cohort.cases["case_id"].to_numpy()[batch["case"]])
        if len(seen) == 5:
            metrics = metrics | {"loss_sum": metrics["loss_sum"] * float("nan")}
        return state, metrics

    start = jax.tree.map(lambda x: x.copy(), made.state)
    with pytest.raises(loop.NonFiniteLossError) as caught:
        loop.train(
            study.config(**CONFIG), made._replace(train_step=step, state=start), cohort, cases, tmp_path
        )
    assert f"at step 5 (loss nan) on the cases {', '.join(seen[4])}; " in str(caught.value)
    assert "the last good checkpoint is step 3" in str(caught.value)
    assert len(seen) == 6


def test_one_process_a_folder(tmp_path):
    with (
        run_directory.exclusive_lock(tmp_path),
        pytest.raises(InputError, match="another process is at work in"),
    ):
        run_directory.exclusive_lock(tmp_path).__enter__()
    with run_directory.exclusive_lock(tmp_path):
        pass


def test_a_record_that_cannot_be_read_is_named(tmp_path):
    cohort = study.cohort()
    store.prepare(cohort.source, cohort.grid, tmp_path)
    (path,) = tmp_path.rglob("*array_record*")
    flip(path)
    with pytest.raises(InputError, match="delete this folder"):
        cases = store.prepare(cohort.source, cohort.grid, tmp_path)
        [cases[row] for row in range(len(cases))]


def fill_disk(*_):
    with open("/dev/full", "w") as file:
        file.write("x" * 10**6)


FAULTS = {
    "full": (fill_disk, 1, "no space left on device; free space"),
    "notice": (
        lambda *_: os.kill(os.getpid(), signal.SIGTERM),
        75,
        "preempted; the same command",
    ),
    "read-only": (
        lambda _, workdir: (workdir / "x").mkdir(parents=True),
        1,
        "give a folder that can be written as --workdir",
    ),
}


@pytest.mark.linux
@pytest.mark.parametrize("name", sorted(FAULTS))
def test_a_sentence_and_a_status(name, tmp_path, signals, monkeypatch):
    fault, status, sentence = FAULTS[name]
    monkeypatch.setitem(modes.MODES, "train", fault)
    result = run_in_process(
        command(folder(tmp_path / "f"), "/sys/kernel/run" if name == "read-only" else tmp_path / "run")
    )
    assert result.returncode == status
    assert sentence in result.stderr and "Traceback" not in result.stderr
