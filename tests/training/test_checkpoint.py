import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from kneefair_jax import mitigation
from kneefair_jax.training import sharding
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
