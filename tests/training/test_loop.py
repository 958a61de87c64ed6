"""The loop, end to end on a tiny cohort: N steps straight are k steps, a stop, and the rest."""

import contextlib
import socket

import chex
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneefair_jax import groups
from kneefair_jax.data import store
from kneefair_jax.errors import InputError
from kneefair_jax.training import checkpoint, config_checks, loop, metric_writer, setup, sharding
from kneefair_jax.training.checkpoint import Checkpoints
from tests.training import study

pytestmark = pytest.mark.usefixtures("terminal_log")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    cohort = study.cohort()
    return cohort, store.prepare(cohort.source, cohort.grid, tmp_path_factory.mktemp("store"))


def run(config, prepared, workdir):
    cohort, cases = prepared
    experiment = setup.build(config, cohort)
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, experiment.state)  # a step donates its state
    workdir.mkdir(exist_ok=True)
    loop.train(config, experiment, cohort, cases, workdir)
    checkpoints = Checkpoints(workdir / "checkpoints")
    state, *_ = checkpoints.restore(config.train.steps, like)
    return state, checkpoints.records()


@contextlib.contextmanager
def cut(monkeypatch, step):
    """The power fails before the checkpoint of a step is on disk."""
    real = Checkpoints.save

    def save(self, state, validation, seconds, pending=()):
        if int(state.step) == step:
            raise KeyboardInterrupt
        real(self, state, validation, seconds, pending)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Checkpoints, "save", save)
        yield


def test_stopped_and_started_again_is_the_same_run(prepared, tmp_path, monkeypatch, capsys):
    """The trap: a resume that loses the adversary's weights, or those of the groups."""
    config = study.config(steps=7, eval_every=3, log_every=2)
    config.mitigation.update({"objective": {"name": "group_dro"}, "head": {"name": "adversarial"}})
    straight, records = run(config, prepared, tmp_path / "straight")
    # Three evaluations and more than two epochs.
    assert "compiled again" not in capsys.readouterr().out

    # A power cut after the second evaluation has begun: step 6 is not on disk, its lines are.
    with cut(monkeypatch, 6):
        run(config, prepared, tmp_path / "cut")
    assert metric_writer.read(tmp_path / "cut" / "metrics.jsonl")[-1]["step"] == 6
    capsys.readouterr()
    resumed, records_resumed = run(config, prepared, tmp_path / "cut")
    assert "continuing from step 3" in capsys.readouterr().out
    chex.assert_trees_all_equal(straight, resumed)
    first = setup.build(config, prepared[0]).state
    moved = jax.tree.map(lambda a, b: (a != b).any(), straight, first)
    assert all(jax.tree.leaves([moved.params["bottleneck"], moved.objective.log_q]))
    assert records == records_resumed
    lines = [metric_writer.read(tmp_path / name / "metrics.jsonl") for name in ("straight", "cut")]
    assert lines[0] == lines[1]


@given(last=st.integers(1, 60), eval_every=st.integers(1, 25), size=st.integers(1, 9), data=st.data())
def test_calls_end_at_evaluations_and_a_resumed_run_has_the_same(last, eval_every, size, data):
    calls = list(loop.calls(0, last, eval_every, size))
    assert [step for call in calls for step in call] == list(range(1, last + 1))
    for call in calls:
        assert len(call) <= size
        assert not any(step % eval_every == 0 for step in call[:-1])
    ends = [call[-1] for call in calls]
    stopped = data.draw(st.sampled_from(ends))
    assert list(loop.calls(stopped, last, eval_every, size)) == calls[ends.index(stopped) + 1 :]


@pytest.mark.parametrize(
    "parallel",
    [name if name == "jit" else pytest.param(name, marks=pytest.mark.slow) for name in sharding.PARALLEL],
)
def test_several_steps_of_one_program_are_the_same_steps(parallel, prepared, tmp_path, monkeypatch):
    config = study.config(steps=7, eval_every=5, log_every=1)
    config.parallel = parallel
    # Plain steps, since Adam divides small gradients by their own size.
    config.optimizer.update({"name": "sgd", "learning_rate": 0.1})
    straight, records = run(config, prepared, tmp_path / "straight")
    config.train.steps_per_call = 3
    together, records_together = run(config, prepared, tmp_path / "together")
    chex.assert_trees_all_close(together.params, straight.params, atol=1e-5)
    chex.assert_trees_all_close(together.batch_stats, straight.batch_stats, atol=1e-5)
    assert [record["step"] for record in records_together] == [record["step"] for record in records]
    with cut(monkeypatch, 7):
        run(config, prepared, tmp_path / "cut")
    resumed, _ = run(config, prepared, tmp_path / "cut")
    chex.assert_trees_all_equal(together, resumed)
    # Calls of 3, 2 and 2 steps: a line at the end of each.
    lines = metric_writer.read(tmp_path / "together" / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [3, 5, 7]
    each = metric_writer.read(tmp_path / "straight" / "metrics.jsonl")
    losses = [line["loss"] for line in each if "loss" in line]
    means = [line["loss"] for line in lines if "loss" in line]
    np.testing.assert_allclose(
        means, [np.mean(losses[:3]), np.mean(losses[3:5]), np.mean(losses[5:])], rtol=1e-3
    )


@pytest.mark.slow
def test_a_finished_run_is_left_alone(prepared, tmp_path):
    config = study.config(steps=2, profile=(1, 2))
    first, _ = run(config, prepared, tmp_path)
    traces = [path.name for path in (tmp_path / "profile").rglob("*") if path.is_file()]
    assert "host.xplane.pb" in traces and not any(socket.gethostname() in name for name in traces)
    before = (tmp_path / "metrics.jsonl").read_text()
    again, _ = run(config, prepared, tmp_path)
    chex.assert_trees_all_equal(first, again)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_it_learns(prepared, tmp_path):
    config = study.config(steps=200, eval_every=200, log_every=20)
    config.model.widths = (4, 8)
    config.optimizer.learning_rate = 1e-2
    config.augment = dict.fromkeys(config.augment, 0.0)
    _, records = run(config, prepared, tmp_path)
    losses = [record["loss"] for record in metric_writer.read(tmp_path / "metrics.jsonl") if "loss" in record]
    assert losses[-1] < 0.6 * losses[0]
    assert records[-1]["overall"] > 0.9
    assert set(records[-1]["groups"]) == {"sex=female", "sex=male"}


@pytest.mark.slow
def test_another_number_of_devices_trains_the_same(prepared, tmp_path, monkeypatch):
    config = study.config(steps=3, eval_every=3)
    eight, _ = run(config, prepared, tmp_path / "eight")
    one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("data",))
    monkeypatch.setattr(setup.sharding, "data_mesh", lambda: one)
    single, _ = run(config, prepared, tmp_path / "one")
    # Adam divides small gradients by their own size, so float32 rounding shows.
    chex.assert_trees_all_close(single.params, eight.params, atol=2e-3)
    chex.assert_trees_all_close(single.batch_stats, eight.batch_stats, atol=2e-3)


@pytest.mark.slow
def test_four_devices_then_two_then_four_train_as_four_do(prepared, tmp_path, monkeypatch):
    config = study.config(steps=6, eval_every=2)
    # Plain steps, since Adam makes of rounding what it likes.
    config.optimizer.update({"name": "sgd", "learning_rate": 0.1})
    devices = {n: jax.sharding.Mesh(np.array(jax.devices()[:n]), ("data",)) for n in (2, 4)}

    def on(n):
        monkeypatch.setattr(setup.sharding, "data_mesh", lambda: devices[n])

    on(4)
    straight, _ = run(config, prepared, tmp_path / "straight")
    with cut(monkeypatch, 4):
        run(config, prepared, tmp_path / "moved")
    on(2)
    with cut(monkeypatch, 6):
        run(config, prepared, tmp_path / "moved")
    on(4)
    moved, records = run(config, prepared, tmp_path / "moved")
    assert [record["step"] for record in records][-2:] == [4, 6]
    chex.assert_trees_all_close(moved.params, straight.params, atol=1e-5)
    chex.assert_trees_all_close(moved.batch_stats, straight.batch_stats, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(prepared, tmp_path):
    config = study.config(steps=6, eval_every=2)
    config.optimizer.update({"name": "sgd", "learning_rate": 1e38, "clip_norm": 0.0, "warmup_steps": 0})
    with pytest.raises(loop.NonFiniteLossError, match=r"diverged at step \d .*checkpoint"):
        run(config, prepared, tmp_path)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "batch_size", 12, "cannot be shared by 8 devices; give 8 or 16"),
        ("train", "batch_size", 64, "more than the 24 training cases"),
        ("train", "steps", 0, "from 1 to 10,000,000"),
        ("train", "log_every", 0, "from 1 to"),
        ("train", "profile", (3, 2), r"profile=\(3, 2\): give the first and the last step"),
        ("train", "accumulation", 2, "a batch of 8 on 8 devices cannot be divided into 2 .*multiple of 16"),
        ("augment", "flip", 2.0, "from 0 to 1"),
        ("augment", "scale", -1.0, "from 0 to"),
        ("augment", "elastic", 0.1, "from 0 to 0.0625"),
        ("optimizer", "learning_rate", -1.0, "from 0 to"),
        ("model", "widths", (0, 4), r"widths\[0\]=0: give"),
        ("model", "dtype", "float33", "give one of float32, bfloat16"),
        ("report", "bootstrap_draws", 39, "from 40 to"),
        ("mitigation.objective", "alpha", 0.0, "above 0 and at most 1"),
        ("mitigation.objective", "alpha", 2.0, "above 0 and at most 1"),
        ("mitigation.schedule", "temperature", 0.0, "above 0 and"),
        ("mitigation.objective", "anneal_steps", -1, "from 0 to"),
        ("mitigation", "groups", ("race", "age"), "give one or more of data.attributes"),
        ("mitigation", "groups", (), "give one or more of data.attributes"),
        ("mitigation.objective", "name", "magic", "give one of cvar_dro, erm"),
        ("mitigation.sampler", "name", "magic", "give one of equal_share, oversampled"),
        ("", "loss", "magic", "give one of cross_entropy"),
        ("", "select", "magic", ", ".join(sorted(checkpoint.SELECTION_RULES))),
    ],
)
def test_what_cannot_work_is_refused(prepared, section, key, value, message):
    config = study.config()
    config.update_from_flattened_dict({f"{section}.{key}".lstrip("."): value})
    with pytest.raises(InputError, match=message):
        config_checks.validate(config, prepared[0])


def test_unnamed_labels_are_never_flipped(prepared):
    """Left and right labels that nobody named would be learnt the wrong way round."""
    cohort, _ = prepared
    config = study.config()
    config.augment = dict.fromkeys(config.augment, 0.0) | {"flip": 1.0}
    image = np.tile(np.arange(16, dtype=np.uint8) * 10, (8, 16, 1))[..., None]
    batch = {
        "image": image,
        "label": np.zeros((8, 16, 16), np.uint8),
        "group": np.zeros(8, np.int32),
        "mask": np.ones(8, np.float32),
        "weight": np.ones(8, np.float32),
        "position": np.arange(8, dtype=np.int32),
    }
    losses = {}
    for named in (True, False):
        experiment = setup.build(config, cohort._replace(has_names=named))
        losses[named] = float(experiment.train_step(experiment.state, experiment.place(batch))[1]["loss"])
    config.augment.flip = 0.0
    experiment = setup.build(config, cohort)
    assert (
        losses[False]
        == float(experiment.train_step(experiment.state, experiment.place(batch))[1]["loss"])
        != losses[True]
    )


def test_groups_are_counted_in_the_training_split_alone(prepared):
    """The trap: weights from the counts of the whole cohort."""
    cohort, _ = prepared
    config = study.config()
    config.mitigation.update({"objective": {"name": "reweighted"}, "groups": ("race",)})
    table = cohort.cases.copy()
    table["race"] = np.where((np.arange(len(table)) < 20) | (table["split"] != "train"), "A", "B")
    table["race"] = groups.categorical(table["race"])
    experiment = setup.build(config, cohort._replace(cases=table))
    np.testing.assert_allclose(experiment.state.objective, [24 / (2 * 20), 24 / (2 * 4)])


def test_a_step_too_far_is_noticed_before_it_is_saved(prepared, tmp_path):
    config = study.config(steps=1, eval_every=1)
    config.optimizer.update({"name": "sgd", "learning_rate": 1e38, "clip_norm": 0.0, "warmup_steps": 0})
    with pytest.raises(loop.NonFiniteLossError, match="there is no checkpoint yet"):
        run(config, prepared, tmp_path)
    assert Checkpoints(tmp_path / "checkpoints").latest() is None


def test_masks_of_some_structures_train_and_validate(prepared, tmp_path):
    """Half of the masks show the disc alone; their squares are background."""
    cohort, cases = prepared
    names = [("disc",) if row % 2 else () for row in range(len(cohort.cases))]
    cohort = cohort._replace(cases=cohort.cases.assign(annotated_structures=names))
    config = study.config(steps=2, eval_every=2)
    config_checks.validate(config, cohort)
    of_kind = cases.with_columns({"annotation": cohort.annotations.kind})
    (record,) = run(config, (cohort, of_kind), tmp_path / "part")[1]
    assert 0 < record["overall"] < 1
    (all_shown,) = run(config, prepared, tmp_path / "all")[1]
    assert record["overall"] != all_shown["overall"]
