import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from kneefair_jax import mitigation
from tests.mitigation import forms

STEPS, SIZE = 200, 8
COUNTS, PATIENTS = np.array([60, 20, 8, 0]), np.array([30, 10, 8, 0])


def dro_weights():
    """The recurrence of `group_dro` from q = [1/3, 1/3, 1/3, 0] with three groups present; constant, as in sg[q]."""
    raised = np.exp(0.1 * (forms.means(forms.LOSSES) + 2 / np.sqrt(forms.PATIENTS[:3])))
    return raised / raised.sum()


def error_weights():
    raised = forms.means(forms.LOSSES) ** 1.5
    return raised / raised.mean()


FORMS = {
    "group_dro": (lambda x: dro_weights() @ forms.means(x), {"eta": 0.1, "adjustment": 2.0}),
    "error_bound": (lambda x: (error_weights() * forms.means(x)).mean(), {"power": 1.5}),
}


def batches(seed=0, steps=STEPS, shares=(0.6, 0.3, 0.1)):
    """Losses, groups and masks [steps, SIZE]: the rare group is often absent, some labels are unknown or padding."""
    rng = np.random.default_rng(seed)
    group = rng.choice(len(shares), (steps, SIZE), p=shares).astype(np.int32)
    group[rng.uniform(size=group.shape) < 0.1] = -1
    losses = (rng.uniform(0.05, 1, group.shape) + 0.3 * group).astype(np.float32)
    return losses, group, (rng.uniform(size=group.shape) > 0.1).astype(np.float32)


def recurrence(losses, group, mask, eta, adjustment):
    """The docstring's recurrence in double precision, group by group: q after each step, the weights of each batch."""
    q = np.array([1 / 3, 1 / 3, 1 / 3, 0])
    history, weights = [], np.zeros(losses.shape)
    for t, (x, g, m) in enumerate(zip(losses.astype(float), group, mask, strict=True)):
        present = [k for k in range(4) if ((g == k) & (m > 0)).any()]
        mean = {k: x[(g == k) & (m > 0)].mean() for k in present}
        mass = sum(q[k] for k in present)
        raised = {k: q[k] * np.exp(eta * (mean[k] + adjustment / np.sqrt(PATIENTS[k]))) for k in present}
        for k in present:
            q[k] = mass * raised[k] / sum(raised.values())
            members = (g == k) & (m > 0)
            weights[t, members] = q[k] / members.sum()
        history.append(q.copy())
    return np.array(history), weights


def scanned(objective, axis_name=None):
    def run(losses, group, mask, state):
        def step(state, data):
            weights, state = objective.update(*data, state, axis_name)
            return state, (state.q, weights)

        return jax.lax.scan(step, state, (losses, group, mask))

    return run


def test_docstring_example_of_group_dro():
    objective = mitigation.group_dro(eta=float(np.log(2)))
    losses = jnp.array([1.0, 2.0])
    state = objective.init(jnp.array([5, 5, 5]))
    weights, state = objective.update(losses, jnp.array([0, 1]), jnp.ones(2), state)
    np.testing.assert_allclose(weights, [2 / 9, 4 / 9], rtol=1e-6)
    np.testing.assert_allclose(state.q, [2 / 9, 4 / 9, 1 / 3], rtol=1e-6)
    np.testing.assert_allclose((weights * losses).sum(), 10 / 9, rtol=1e-6)


@pytest.mark.parametrize(("eta", "adjustment"), [(0.01, 0.0), (0.1, 1.0), (1.0, 2.0)])
def test_q_follows_the_recurrence_over_200_steps(eta, adjustment):
    data = batches()
    absent = [(~np.isin(g, (k,)) | (m == 0)).all() for g, m in zip(*data[1:], strict=True) for k in range(3)]
    assert sum(absent) > 50
    objective = mitigation.group_dro(eta=eta, adjustment=adjustment)
    _, (q, weights) = jax.jit(scanned(objective))(*data, objective.init(COUNTS, PATIENTS))
    expected_q, expected_weights = recurrence(*data, eta, adjustment)
    np.testing.assert_allclose(q, expected_q, atol=1e-5)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-5)
    np.testing.assert_allclose(q.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("check", [True, False])
def test_eight_devices_equal_one_over_200_steps(check):
    data = batches(1)
    objective = mitigation.group_dro(eta=0.5, adjustment=1.0)
    state = objective.init(COUNTS, PATIENTS)
    single, (_, weights) = jax.jit(scanned(objective))(*data, state)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = P(None, "data")
    mapped = jax.shard_map(
        scanned(objective, "data"),
        mesh=mesh,
        in_specs=(rows, rows, rows, P()),
        out_specs=(P(), (P(), rows)),
        check_vma=check,
    )
    sharded, (_, sharded_weights) = jax.jit(mapped)(*data, state)
    np.testing.assert_allclose(sharded.q, single.q, atol=1e-5)
    np.testing.assert_allclose(sharded_weights, weights, atol=1e-5)


def test_equal_losses_keep_q_equal_for_a_rare_group():
    """With a common normalization, an absent group with loss 0 decays, here to less than 0.01."""
    steps, eta = 2000, 0.1
    group = (np.random.default_rng(0).uniform(size=(steps, 8)) < 0.18).astype(np.int32)
    ones = np.ones(group.shape, np.float32)
    objective = mitigation.group_dro(eta=eta)
    last, _ = jax.jit(scanned(objective))(ones, group, ones, objective.init(np.array([82, 18])))
    np.testing.assert_allclose(last.q, [0.5, 0.5], atol=1e-5)
    decayed = np.array([0.5, 0.5])
    for g in group:
        decayed *= np.exp(eta * np.array([(g == k).any() for k in range(2)]))
        decayed /= decayed.sum()
    assert decayed[1] < 0.01


def test_an_absent_group_keeps_its_weight_to_the_bit():
    objective = mitigation.group_dro(eta=0.3)
    before = objective.init(COUNTS)._replace(log_q=jnp.log(jnp.array([0.2, 0.5, 0.3, 0.0])))
    _, after = objective.update(jnp.array([1.0, 3.0]), jnp.array([0, 2]), jnp.ones(2), before)
    assert after.log_q[1] == before.log_q[1]
    np.testing.assert_allclose(after.q[0] + after.q[2], 0.5, rtol=1e-6)


def test_the_adjustment_changes_q_alone():
    """Added in place, C / sqrt(n) would be in the reported loss."""
    plain, adjusted = mitigation.group_dro(eta=1.0), mitigation.group_dro(eta=1.0, adjustment=3.0)
    losses, group = jnp.array([1.0, 1.0]), jnp.array([0, 1])
    counts, patients = jnp.array([200, 8]), jnp.array([100, 4])
    state = adjusted.init(counts, patients)
    np.testing.assert_allclose(state.adjustment, [0.3, 1.5], rtol=1e-6)
    weights, new = adjusted.update(losses, group, jnp.ones(2), state)
    ratio = np.exp(1.2)
    np.testing.assert_allclose(new.q, [1 / (1 + ratio), ratio / (1 + ratio)], rtol=1e-6)
    np.testing.assert_array_equal(weights, new.q)
    np.testing.assert_allclose((weights * losses).sum(), 1, rtol=1e-6)  # raw losses of 1: F is 1
    np.testing.assert_array_equal(losses, [1, 1])
    unadjusted, _ = plain.update(losses, group, jnp.ones(2), plain.init(counts, patients))
    np.testing.assert_allclose(unadjusted, [0.5, 0.5], rtol=1e-6)


def test_patients_default_to_the_cases():
    state = mitigation.group_dro(adjustment=2.0).init(jnp.array([4, 16]))
    np.testing.assert_allclose(state.adjustment, [1, 0.5])


def test_a_group_without_training_cases_has_no_mass():
    """Otherwise the other groups would lack its share for the whole run."""
    objective = mitigation.group_dro(adjustment=1.0)
    state = objective.init(jnp.array([30, 0, 10]), jnp.array([15, 0, 10]))
    np.testing.assert_allclose(state.q, [0.5, 0, 0.5], rtol=1e-6)
    assert np.isfinite(state.adjustment).all()
    weights, new = objective.update(jnp.ones(2), jnp.array([0, 2]), jnp.ones(2), state)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    weights, new = objective.update(jnp.ones(1), jnp.array([1]), jnp.ones(1), new)
    np.testing.assert_array_equal(weights, [0])
    np.testing.assert_allclose(new.q.sum(), 1, rtol=1e-6)


def test_large_steps_neither_overflow_nor_fix_q_at_zero():
    objective = mitigation.group_dro(eta=1000.0)
    state = objective.init(jnp.array([5, 5]))
    group, ones = jnp.array([0, 1]), jnp.ones(2)
    for losses in ([1.0, 9.0], [9.0, 1.0], [9.0, 1.0]):
        weights, state = objective.update(jnp.array(losses), group, ones, state)
    # 8,000 down and 16,000 up: a q of 0 would have stayed 0.
    np.testing.assert_array_equal(weights, [1, 0])
    assert np.isfinite(state.log_q).all()


def test_the_worse_group_gains_weight():
    objective = mitigation.group_dro()
    state = objective.init(jnp.array([5, 5]))
    _, new = objective.update(jnp.array([0.2, 0.4]), jnp.array([0, 1]), jnp.ones(2), state)
    assert new.q[1] > 0.5 > new.q[0]


def test_a_restored_state_continues_bit_equal(tmp_path):
    data = batches(2)
    objective = mitigation.group_dro(eta=0.3, adjustment=1.0)
    run = jax.jit(scanned(objective))
    first = objective.init(COUNTS, PATIENTS)
    half, _ = run(*(x[:100] for x in data), first)
    np.savez(tmp_path / "state.npz", **half._asdict())
    with np.load(tmp_path / "state.npz") as file:
        restored = type(half)(**{name: jnp.asarray(file[name]) for name in half._fields})
    straight, _ = run(*(x[100:] for x in data), half)
    resumed, _ = run(*(x[100:] for x in data), restored)
    jax.tree.map(np.testing.assert_array_equal, straight, resumed)


def test_batches_of_one_group_never_change_the_weights():
    """As documented; in the paper's algorithm, which normalizes over all groups, q of such a group rises."""
    objective = mitigation.group_dro(eta=1.0)
    state = objective.init(jnp.array([5, 5]))
    for losses, group in (([9.0], [0]), ([0.1], [1]), ([9.0], [0])):
        weights, state = objective.update(jnp.array(losses), jnp.array(group), jnp.ones(1), state)
        np.testing.assert_allclose(weights, [0.5], rtol=1e-6)
    np.testing.assert_allclose(state.q, [0.5, 0.5], rtol=1e-6)


def error_bound_weights(losses, group, power=1.0, groups=4):
    objective = mitigation.error_bound(power=power)
    losses = jnp.asarray(losses, jnp.float32)
    state = objective.init(jnp.ones(groups, jnp.int32))
    return objective.update(losses, jnp.asarray(group), jnp.ones(len(losses)), state)[0]


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 10), min_size=4, max_size=4), st.floats(0, 20))
def test_the_worst_group_has_the_largest_weight(losses, power):
    """In the released code of the paper, the worst group has the smallest weight."""
    weights = np.asarray(error_bound_weights(losses, [0, 1, 2, 3], power))
    assert weights[np.argmax(losses)] == weights.max()
    assert (np.diff(weights[np.argsort(losses)]) >= 0).all()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
def test_an_absent_group_does_not_make_every_weight_zero(power):
    """In the released code of the paper, it does."""
    weights = error_bound_weights([1.0, 3.0], [0, 2], power)
    np.testing.assert_allclose(weights, np.array([1, 3**power]) / (1 + 3**power), rtol=1e-6)


def test_power_zero_is_group_balanced():
    np.testing.assert_allclose(error_bound_weights([1.0, 3, 5], [0, 0, 1], 0.0), [1 / 4, 1 / 4, 1 / 2])


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
def test_groups_without_loss_have_equal_weights(power):
    np.testing.assert_allclose(error_bound_weights([0.0, 0.0], [0, 1], power), [0.5, 0.5])


def test_a_large_power_does_not_overflow():
    """Relative to the mean, the largest loss is 4, whose power of 100 exceeds float32."""
    weights = error_bound_weights([1.0, 1, 1, 1e6], [0, 1, 2, 3], 100.0)
    np.testing.assert_allclose(weights, [0, 0, 0, 1], atol=1e-12)
