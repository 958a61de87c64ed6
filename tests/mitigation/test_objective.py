"""Properties that every group objective has, and the mean losses of the groups."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from kneefair_jax import mitigation
from kneefair_jax.errors import InputError
from kneefair_jax.mitigation import ascend
from kneefair_jax.mitigation.objective import group_losses, training_counts

COUNTS = jnp.array([12, 3, 5], jnp.int32)
PATIENTS = jnp.array([6, 3, 4], jnp.int32)
NAMES = sorted(mitigation.OBJECTIVES)
BY_GROUPS = [name for name in NAMES if mitigation.OBJECTIVES[name].uses_groups]
by_groups = pytest.mark.parametrize("objective", BY_GROUPS, indirect=True)


def batch(seed, size=16, groups=3):
    rng = np.random.default_rng(seed)
    losses = rng.uniform(0.1, 2, size).astype(np.float32)
    group = rng.integers(-1, groups, size).astype(np.int32)
    mask = (rng.uniform(size=size) > 0.2).astype(np.float32)
    return losses, group, mask


@functools.cache
def compiled(name):
    """The objective with a jitted update, cached, so that all tests compile it once for each shape."""
    objective = mitigation.create(name, {})
    return mitigation.GroupObjective(objective.init, jax.jit(objective.update, static_argnums=4))


@pytest.fixture(params=NAMES)
def objective(request):
    return compiled(request.param)


def test_padding_has_no_weight_whatever_it_holds(objective):
    losses, group, mask = batch(0)
    state = objective.init(COUNTS)
    weights, new = objective.update(losses, group, mask, state)
    assert (np.asarray(weights)[mask == 0] == 0).all()
    for value in (99.0, np.inf, np.nan):
        changed = np.where(mask > 0, losses, value).astype(np.float32)
        weights_again, new_again = objective.update(changed, group, mask, state)
        np.testing.assert_array_equal(weights, weights_again)
        jax.tree.map(np.testing.assert_array_equal, new, new_again)


def test_an_empty_batch_weighs_nothing_and_leaves_the_state(objective):
    losses, group, mask = batch(1)
    state = objective.init(COUNTS)
    weights, new = objective.update(losses, group, 0 * mask, state)
    np.testing.assert_array_equal(weights, np.zeros_like(losses))
    jax.tree.map(np.testing.assert_array_equal, new, state)


def test_order_of_examples_does_not_matter(objective):
    losses, group, mask = batch(2)
    losses[:6] = losses[6:12]  # ties
    order = np.random.default_rng(0).permutation(len(losses))
    state = objective.init(COUNTS)
    weights, _ = objective.update(losses, group, mask, state)
    permuted, _ = objective.update(losses[order], group[order], mask[order], state)
    np.testing.assert_allclose(np.asarray(weights)[order], permuted, rtol=1e-5, atol=1e-6)


def test_names_of_groups_do_not_matter(objective):
    losses, group, mask = batch(3)
    renamed = np.array([2, 0, 1])
    order = np.argsort(renamed)
    state, other_state = objective.init(COUNTS, PATIENTS), objective.init(COUNTS[order], PATIENTS[order])
    other_group = np.where(group < 0, -1, renamed[group]).astype(np.int32)
    for _ in range(2):
        weights, state = objective.update(losses, group, mask, state)
        other_weights, other_state = objective.update(losses, other_group, mask, other_state)
        np.testing.assert_allclose(weights, other_weights, rtol=1e-5)


def test_eight_devices_give_the_weights_and_the_state_of_one(objective):
    data = batch(4)
    state = objective.init(COUNTS)
    expected = objective.update(*data, state)
    local = functools.partial(objective.update, axis_name="data")
    by_pmap = jax.pmap(lambda *x: local(*x, state), axis_name="data")(*(x.reshape(8, 2) for x in data))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, P("data"))
    results = {
        "pmap": (by_pmap[0].reshape(-1), jax.tree.map(lambda x: x[0], by_pmap[1])),
        "jit": objective.update(*(jax.device_put(x, rows) for x in data), state),
    }
    for check in (True, False):
        specs = {"in_specs": (P("data"),) * 3 + (P(),), "out_specs": (P("data"), P())}
        mapped = jax.shard_map(local, mesh=mesh, check_vma=check, **specs)
        results[f"shard_map, check_vma={check}"] = jax.jit(mapped)(*data, state)
    for name, result in results.items():
        for leaf, expected_leaf in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(leaf, expected_leaf, rtol=2e-6, atol=1e-7, err_msg=name)


def test_jit_and_no_jit_agree_and_the_state_keeps_its_shape(objective):
    losses, group, mask = batch(5)
    state = objective.init(COUNTS)
    weights, new = objective.update.__wrapped__(losses, group, mask, state)
    jitted, new_jitted = objective.update(losses, group, mask, state)
    np.testing.assert_allclose(weights, jitted, rtol=1e-5)
    kinds = [jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), s) for s in (state, new, new_jitted)]
    assert kinds[0] == kinds[1] == kinds[2]


def test_vmap_over_runs(objective):
    batches = [batch(seed) for seed in range(3)]
    state = objective.init(COUNTS)
    mapped, _ = jax.vmap(lambda *x: objective.update(*x, state))(*map(np.stack, zip(*batches, strict=True)))
    for weights, data in zip(mapped, batches, strict=True):
        np.testing.assert_allclose(weights, objective.update(*data, state)[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("column", range(3), ids=["losses", "group", "mask"])
def test_a_column_vector_is_refused(objective, column):
    """(B,) times (B, 1) would be (B, B), whose sum is a number too."""
    data = list(batch(6))
    data[column] = data[column][:, None]
    with pytest.raises(ValueError, match=r"shapes.*\(16, 1\)"):
        objective.update(*data, objective.init(COUNTS))


@pytest.mark.parametrize("name", NAMES)
def test_groups_that_are_no_numbers_of_groups_are_refused(name):
    losses, group, mask = batch(6)
    objective = mitigation.create(name, {})
    state = objective.init(COUNTS)
    for update in (objective.update, jax.jit(objective.update)):
        with pytest.raises(ValueError, match="float32.*integers"):
            update(losses, group.astype(np.float32), mask, state)
    if name in BY_GROUPS:
        for outside in (3, -2):
            with pytest.raises(ValueError, match=f"{outside}.*from 0 to 2"):
                objective.update(losses, np.append(group[1:], outside), mask, state)


def test_under_jit_a_group_beyond_the_last_is_unknown(objective):
    losses, group, mask = batch(6)
    state = objective.init(COUNTS)
    unknown = np.where(np.arange(len(group)) < 4, -1, np.abs(group)).astype(np.int32)
    outside = np.where(unknown < 0, [7, 3, -2, 100] * 4, unknown).astype(np.int32)
    expected = objective.update(losses, unknown, mask, state)
    jax.tree.map(np.testing.assert_array_equal, objective.update(losses, outside, mask, state), expected)


@pytest.mark.parametrize("name", NAMES)
def test_lists_give_the_weights_of_arrays(name):
    losses, group, mask = [0.5, 1.0, 2.0], [0, 1, -1], [1.0, 1.0, 1.0]
    objective = mitigation.create(name, {})
    state = objective.init(COUNTS)
    data = (jnp.array(losses), jnp.array(group), jnp.array(mask))
    expected, _ = objective.update(*data, state)
    weights, _ = objective.update(losses, group, mask, state)
    np.testing.assert_array_equal(weights, expected)
    np.testing.assert_array_equal(
        objective.value(weights, losses, group, mask, state), objective.value(weights, *data, state)
    )
    with pytest.raises(ValueError, match="float32.*integers"):
        objective.update(losses, [0.0, 1.0, -1.0], mask, state)


@by_groups
def test_a_batch_of_unknown_groups_leaves_the_state(objective):
    losses, group, mask = batch(7)
    state = objective.init(COUNTS)
    weights, new = objective.update(losses, np.full_like(group, -1), mask, state)
    # The mean of gap_penalty is over all examples.
    expected = mask / mask.sum() if objective is compiled("gap_penalty") else 0 * mask
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, new, state)


@by_groups
def test_an_unknown_group_is_never_group_zero(objective):
    losses = np.array([0.5, 1.0, 8.0, 2.0], np.float32)
    group = np.array([0, 1, -1, 2], np.int32)
    state = objective.init(COUNTS)
    weights, new = objective.update(losses, group, np.ones(4, np.float32), state)
    as_group_zero, _ = objective.update(losses, np.maximum(group, 0), np.ones(4, np.float32), state)
    assert abs(as_group_zero - weights).max() > 0.01
    losses[2] = 0.1
    weights_again, new_again = objective.update(losses, group, np.ones(4, np.float32), state)
    np.testing.assert_array_equal(weights, weights_again)
    jax.tree.map(np.testing.assert_array_equal, new, new_again)
    assert weights[2] == (0.25 if objective is compiled("gap_penalty") else 0)


@pytest.mark.parametrize(
    "objective",
    sorted({*BY_GROUPS} - {"group_dro"}),  # there, an absent group holds its mass
    indirect=True,
)
def test_an_absent_group_does_not_change_the_weights_of_the_rest(objective):
    """One missing group must not make every weight 0, or NaN."""
    losses = np.array([0.5, 1.0, 2.0, 1.5], np.float32)
    group = np.array([0, 0, 2, 2], np.int32)
    weights, _ = objective.update(losses, group, np.ones(4, np.float32), objective.init(COUNTS))
    if objective is compiled("reweighted"):
        np.testing.assert_allclose(weights * 4, np.repeat([20 / 36, 20 / 15], 2), rtol=1e-6)
    else:
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
        two_groups, _ = objective.update(
            losses, group // 2, np.ones(4, np.float32), objective.init(COUNTS[:2])
        )
        np.testing.assert_allclose(weights, two_groups, rtol=1e-6)


def test_which_objectives_need_groups(objective, request):
    losses, group, _ = batch(8)
    state, ones = objective.init(COUNTS), np.ones_like(losses)
    grouped, _ = objective.update(losses, np.abs(group), ones, state)
    ungrouped, _ = objective.update(losses, np.full_like(group, -1), ones, state)
    name = request.node.callspec.params["objective"]
    assert mitigation.OBJECTIVES[name].uses_groups != np.array_equal(grouped, ungrouped)


def test_which_objectives_correct_twice_on_balanced_batches(objective, request):
    """Where each group fills a third of the batch and all losses are equal, each should have a third of the weight."""
    group = np.arange(12, dtype=np.int32) % 3
    ones = np.ones(12, np.float32)
    weights, _ = objective.update(ones, group, ones, objective.init(COUNTS))
    share = np.bincount(group, weights)
    name = request.node.callspec.params["objective"]
    assert mitigation.OBJECTIVES[name].reweights == (not np.allclose(share, 1 / 3, rtol=1e-5))


def test_the_config_s_settings_reach_the_objectives_that_take_them():
    settings = {"name": "cvar_dro", "alpha": 0.25, "penalty": 7.0}
    objective = mitigation.create("cvar_dro", settings)
    losses = np.array([1, 4, 2, 3], np.float32)
    data = (losses, np.zeros(4, np.int32), np.ones(4, np.float32))
    np.testing.assert_allclose(objective.update(*data, objective.init(COUNTS))[0], [0, 1, 0, 0])
    for name in NAMES:
        assert isinstance(mitigation.create(name, settings), mitigation.GroupObjective)
    with pytest.raises(
        InputError, match=r"config\.mitigation\.objective\.name='magic': give one of cvar_dro, erm,"
    ):
        mitigation.create("magic", {})


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("group_dro", "eta", -0.1, "from 0 to 1000"),
        ("group_dro", "eta", float("nan"), "from 0 to 1000"),
        ("group_dro", "adjustment", -1.0, "from 0 to"),
        ("cvar_dro", "alpha", 0.0, "above 0 and at most 1"),
        ("cvar_dro", "alpha", 1.5, "above 0 and at most 1"),
        ("within_group_cvar", "alpha", -0.5, "above 0 and at most 1"),
        ("gap_penalty", "penalty", -1.0, "from 0 to"),
        ("vrex", "penalty", float("inf"), "from 0 to"),
        ("vrex", "anneal_steps", 0.5, "whole number"),
        ("error_bound", "power", -1.0, "from 0 to 100"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name, field, value, message):
    with pytest.raises(InputError, match=rf"config\.mitigation\.objective\.{field}=.*{message}"):
        mitigation.create(name, {field: value})


@pytest.mark.parametrize("number", [jnp.float32, np.float32, np.array], ids=["jax", "numpy", "no dimension"])
def test_a_setting_may_be_a_scalar_of_an_array(number):
    data = (*batch(5), ())
    expected, _ = mitigation.cvar_dro(alpha=0.25).update(*data)
    np.testing.assert_array_equal(mitigation.cvar_dro(alpha=number(0.25)).update(*data)[0], expected)
    with pytest.raises(
        InputError, match=r"config\.mitigation\.objective\.alpha=1\.5: .*above 0 and at most 1"
    ):
        mitigation.cvar_dro(alpha=number(1.5))
    with pytest.raises(InputError, match=r"anneal_steps=0\.5: .*whole number"):
        mitigation.vrex(anneal_steps=number(0.5))


HALF = {"alpha": 0.5}
EXAMPLES = {  # name: settings, training cases, losses, groups, weights, F
    "erm": ({}, [2, 1], [1, 3], [0, 1], [1 / 2, 1 / 2], 2),
    "reweighted": ({}, [3, 1], [1, 1, 4], [0, 0, 1], [2 / 9, 2 / 9, 2 / 3], 28 / 9),
    "group_balanced": ({}, [9, 1], [1, 3, 5], [0, 0, 1], [1 / 4, 1 / 4, 1 / 2], 7 / 2),
    "gap_penalty": ({"penalty": 0.5}, [1, 1], [1, 3, 5], [0, 0, 1], [1 / 12, 1 / 12, 5 / 6], 9 / 2),
    "vrex": ({"penalty": 1.0}, [1, 1], [1, 3, 5], [0, 0, 1], [-1 / 2, -1 / 2, 2], 23 / 4),
    "error_bound": ({"power": 1.0}, [1, 1], [0, 2, 3], [0, 0, 1], [1 / 8, 1 / 8, 3 / 4], 5 / 2),
    "cvar_dro": (HALF, [1], [1, 4, 2, 3, 0], [-1] * 5, [0, 2 / 5, 1 / 5, 2 / 5, 0], 16 / 5),
    "within_group_cvar": (
        HALF,
        [1, 1],
        [1, 3, 2, 4, 6],
        [0, 0, 1, 1, 1],
        [0, 1 / 2, 0, 1 / 6, 1 / 3],
        25 / 6,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring_examples(name):
    settings, counts, losses, group, weights, value = EXAMPLES[name]
    objective = mitigation.create(name, settings)
    state = objective.init(jnp.array(counts))
    data = (jnp.array(losses, jnp.float32), jnp.array(group), jnp.ones(len(losses)))
    actual, _ = objective.update(*data, state)
    np.testing.assert_allclose(actual, weights, rtol=1e-6)
    np.testing.assert_allclose(objective.value(actual, *data, state), value, rtol=1e-6)


def test_docstring_example_of_group_losses():
    batch = group_losses(jnp.array([1.0, 3, 5, 9]), jnp.array([0, 0, 1, -1]), jnp.ones(4), 2)
    np.testing.assert_array_equal(batch.mean, [2, 5])
    np.testing.assert_array_equal(batch.size, [2, 1])
    np.testing.assert_array_equal(batch.member, [[1, 0], [1, 0], [0, 1], [0, 0]])
    np.testing.assert_allclose(batch.weights(jnp.array([1.0, 3.0])), [0.5, 0.5, 3, 0])


def test_an_absent_group_has_no_share():
    batch = group_losses(jnp.array([1.0, 3]), jnp.array([2, 0]), jnp.ones(2), 4)
    np.testing.assert_array_equal(batch.present, [True, False, True, False])
    np.testing.assert_array_equal(batch.share, [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(batch.mean, [3, 0, 1, 0])


def test_the_state_of_stateless_objectives_is_the_counts():
    np.testing.assert_array_equal(training_counts(jnp.array([3, 0]), jnp.array([2, 0])), [3, 0])


def test_docstring_example():
    """The norm is over all arrays together."""
    params, gradient = (
        {"a": jnp.array([1.0]), "b": jnp.array([0.0])},
        {"a": jnp.array([3.0]), "b": jnp.array([4.0])},
    )
    point = ascend(params, gradient, 0.5)
    np.testing.assert_allclose([point["a"][0], point["b"][0]], [1.3, 0.4], rtol=1e-6)


def test_parameters_stay_where_the_gradient_is_zero():
    np.testing.assert_array_equal(ascend(jnp.array([1.0, -2.0]), jnp.zeros(2), 0.5), [1.0, -2.0])
