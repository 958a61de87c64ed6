import gc
import math
import pickle
import shutil
import subprocess
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from kneefair_jax import mitigation
from kneefair_jax.errors import InputError
from kneefair_jax.training import checkpoint, sharding
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.state import TrainState


def state(step):
    params = {"w": jnp.arange(6.0).reshape(2, 3) + step}
    return TrainState(
        jnp.uint32(0),
        jnp.int32(step),
        params,
        {"mean": jnp.ones(3) * step},
        optax.adam(1e-3).init(params),
        mitigation.reweighted().init(jnp.array([3, 1])),
    )


def scores(overall, a=0.0, b=0.0):
    return {"overall": overall, "groups": {"sex=a": a, "sex=b": b}}


def test_a_state_comes_back_bit_for_bit(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    assert checkpoints.latest() is None
    checkpoints.save(state(7), scores(0.5), 12.5)
    checkpoints.close()
    restored, seconds, _ = Checkpoints(tmp_path / "c").restore(7, state(0))
    chex.assert_trees_all_equal(restored, state(7))
    assert isinstance(restored, TrainState) and seconds == 12.5


def test_only_what_a_rule_may_still_choose_is_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step, values in enumerate(
        [(0.5, 0.5, 0.5), (0.9, 0.9, 0.6), (0.4, 0.4, 0.4), (0.3, 0.3, 0.3), (0.2, 0.2, 0.2)]
    ):
        checkpoints.save(state(step), scores(*values), 0.0)
    assert [record["step"] for record in checkpoints.records()] == [1, 3, 4]
    assert checkpoints.records()[0] == {"step": 1, **scores(0.9, 0.9, 0.6)}
    checkpoints.close()


def test_restored_on_another_number_of_devices(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1), scores(0.5), 0.0)
    checkpoints.close()
    for devices in (8, 4, 1):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (sharding.AXIS,))
        like = jax.device_put(state(0), NamedSharding(mesh, PartitionSpec()))
        restored, *_ = Checkpoints(tmp_path).restore(1, like)
        chex.assert_trees_all_equal(restored, state(1))
        assert len(restored.params["w"].sharding.device_set) == devices
        # The network alone, whatever the optimiser and the objective were.
        other = like._replace(opt_state=optax.sgd(1.0).init(like.params), objective=())
        variables, seconds = Checkpoints(tmp_path).variables(1, other), Checkpoints(tmp_path).seconds(1)
        chex.assert_trees_all_equal(variables, state(1).variables)
        assert len(variables["params"]["w"].sharding.device_set) == devices and seconds == 0.0


def test_a_network_without_statistics_is_restored_alone(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1)._replace(batch_stats={}), scores(0.5), 0.0)
    checkpoints.close()
    variables = Checkpoints(tmp_path).variables(1, state(0)._replace(batch_stats={}))
    chex.assert_trees_all_equal(variables, state(1).variables | {"batch_stats": {}})


def test_a_checkpoint_that_was_half_deleted_is_none(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step, overall in ((1, 0.9), (2, 0.5)):
        checkpoints.save(state(step), scores(overall), 0.0)
    checkpoints.close()
    shutil.rmtree(tmp_path / "1" / "metrics")
    assert [record["step"] for record in Checkpoints(tmp_path).records()] == [2]


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "7"
    (folder / "state" / "d").mkdir(parents=True)
    (folder / "metrics").mkdir()
    (folder / "state" / "d" / "array").write_bytes(bytes(1000))
    (folder / "metrics" / "metrics").write_text("{}")
    (folder / "changed_later").write_text("a")
    checkpoint.seal(folder)
    return folder


def test_sums_are_those_of_sha256sum(sealed):
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", checkpoint.SUMS], cwd=sealed, check=True)
    assert len((sealed / checkpoint.SUMS).read_text().splitlines()) == 2 + 1


def test_what_is_as_it_was_is_whole(sealed):
    (sealed / "changed_later").write_text("b")
    assert checkpoint.find_damage(sealed) is None


@pytest.mark.parametrize("data", [bytes(500), bytes(999) + b"\1", b""])
def test_one_bit_or_all(sealed, data):
    (sealed / "state" / "d" / "array").write_bytes(data)
    assert checkpoint.find_damage(sealed) == f"{sealed}/state/d/array has changed since it was written"
    assert checkpoint.find_damage(sealed, "metrics/") is None


def test_what_is_absent_is_damage_of_the_whole_alone(sealed):
    (sealed / "metrics" / "metrics").unlink()
    assert checkpoint.find_damage(sealed) == f"{sealed}/metrics/metrics is missing"
    assert checkpoint.find_damage(sealed, "metrics/") is None


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_sums_that_are_cut_are_damage(sealed, lines):
    text = (sealed / checkpoint.SUMS).read_text().splitlines(keepends=True)
    (sealed / checkpoint.SUMS).write_text("".join(text[:lines]))
    assert checkpoint.find_damage(sealed) == f"{sealed}/{checkpoint.SUMS} has changed since it was written"


def test_without_checksums_damage_is_not_detected(sealed):
    (sealed / checkpoint.SUMS).unlink()
    (sealed / "state" / "d" / "array").unlink()
    assert checkpoint.find_damage(sealed) is None


def test_each_damaged_one_has_a_name_of_its_own(sealed):
    assert checkpoint.set_aside(sealed).name == "damaged_7_0"
    sealed.mkdir()
    assert checkpoint.set_aside(sealed).name == "damaged_7_1"
    assert not sealed.exists()


def damaged(file, how):
    """The file truncated, emptied, or as a pickle that writes a file when it is loaded."""
    content = {"empty": b"", "nested": b"[" * 100_000, "pickle": pickle.dumps(Planted())}.get(how)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)


class Planted:
    def __reduce__(self):
        return (Path.touch, (Path("was_loaded"),))


SLOW = [pytest.param(how, marks=pytest.mark.slow) for how in ("truncated", "nested", "pickle")]


# Where a restore fails, orbax leaves event loops and coroutines behind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["empty", *SLOW])
def test_every_file_without_sums_that_is_damaged_is_one_line_or_the_same_state(tmp_path, monkeypatch, how):
    """A checkpoint of an earlier version, or of somebody else, has no sums."""
    monkeypatch.chdir(tmp_path)
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state(7), scores(0.5), 12.5)
    (tmp_path / "c/7/SHA256SUMS").unlink()
    files = [path.relative_to(tmp_path / "c") for path in (tmp_path / "c").rglob("*") if path.is_file()]
    refused = 0
    for file in files:
        copy = shutil.copytree(tmp_path / "c", tmp_path / "copy")
        damaged(copy / file, how)
        try:
            with Checkpoints(copy) as checkpoints:
                checkpoints.records()
                restored, seconds, _ = checkpoints.restore(7, state(0))
        except InputError as error:
            assert str(copy) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            chex.assert_trees_all_equal(restored, state(7))
            assert seconds == 12.5
        shutil.rmtree(copy)
    assert refused >= 3 and not (tmp_path / "was_loaded").exists()
    gc.collect()


def test_a_step_that_is_missing_is_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state(7), scores(0.5), 12.5)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(InputError, match="no checkpoint of step 8"):
        checkpoints.restore(8, state(0))


RECORDS = [
    {"step": 1, "overall": 0.90, "groups": {"a": 0.92, "b": 0.70}},
    {"step": 2, "overall": 0.88, "groups": {"a": 0.89, "b": 0.80}},
    {"step": 3, "overall": 0.85, "groups": {"a": 0.85, "b": 0.81}},
    {"step": 4, "overall": 0.80, "groups": {"a": 0.80, "b": 0.60}},
]


def test_by_hand():
    assert checkpoint.overall(RECORDS)["step"] == 1
    assert checkpoint.worst_group(RECORDS)["step"] == 3
    # U = (.92, .81); the distances are .11, .0316, .07, ...
    assert checkpoint.utopia(RECORDS)["step"] == 2
    assert checkpoint.preserved_steps(RECORDS, recent=1) == {
        1,
        2,
        3,
        4,
    }  # 4 is the latest, the rest are not dominated


def test_ties_go_to_the_earlier_step():
    records = [{"step": step, "overall": 0.5, "groups": {"a": 0.5}} for step in (3, 1, 2)]
    assert {rule(records)["step"] for rule in checkpoint.SELECTION_RULES.values()} == {1}


def test_a_group_without_a_score_at_some_step_is_not_compared():
    records = [
        {"step": 1, "overall": 0.5, "groups": {"a": 0.5, "b": 0.1}},
        {"step": 2, "overall": 0.6, "groups": {"a": 0.6}},
    ]
    assert {rule(records)["step"] for rule in checkpoint.SELECTION_RULES.values()} == {2}
    assert checkpoint.preserved_steps(records, recent=1) == {2} and checkpoint.preserved_steps(records) == {
        1,
        2,
    }


def test_without_groups_the_worst_is_the_overall():
    records = [{"step": step, "overall": step / 10, "groups": {}} for step in (1, 3, 2)]
    assert checkpoint.worst_group(records)["step"] == 3


@settings(max_examples=100)
@given(st.lists(st.tuples(*[st.integers(0, 5)] * 2), min_size=1, max_size=12))
def test_deleting_as_we_go_never_changes_a_choice(scores):
    """What orbax deletes after each save must not have been needed by any rule later."""
    everything, disk = [], []
    for step, (a, b) in enumerate(scores):
        record = {"step": step, "overall": (3 * a + b) / 4, "groups": {"a": float(a), "b": float(b)}}
        everything.append(record)
        disk = [r for r in [*disk, record] if r["step"] in checkpoint.preserved_steps([*disk, record])]
    for rule in (checkpoint.overall, checkpoint.worst_group):
        assert rule(disk)["step"] == rule(everything)["step"]
    best = {g: max(r["groups"][g] for r in everything) for g in "ab"}
    distance = lambda r: math.dist([r["groups"][g] for g in "ab"], [best[g] for g in "ab"])
    assert distance(checkpoint.utopia(disk)) == min(map(distance, everything))
