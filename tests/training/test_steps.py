"""One training step: its golden number, its gradient, and the same result however it is spread over devices."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from kneefair_jax import anatomy, losses, metrics, mitigation, models
from kneefair_jax.data.augment import Augmentation, vary_geometry
from kneefair_jax.predict import quality
from kneefair_jax.training import state as states
from kneefair_jax.training import steps

COUNTS = jnp.array([9, 3], jnp.int32)
GRID = (8, 8, 1)
FLIPPED = np.array([0, 2, 1], np.int32)  # what each label is called after a flip, in the tests of void pixels


def batch(size=8, dtype=np.float32):
    rng = np.random.default_rng(0)
    return {
        "image": rng.uniform(size=(size, *GRID)).astype(dtype),
        "label": rng.integers(0, 3, (size, *GRID[:2])).astype(np.uint8),
        "group": np.array([0, 0, 0, 1, -1, 0, 1, 0], np.int32)[:size],
        "mask": np.ones(size, np.float32),
        "weight": np.ones(size, np.float32),
        "position": np.arange(size, dtype=np.int32),
    }


def parts(
    objective="reweighted",
    axis_name=None,
    optimizer=None,
    head="none",
    widths=(4, 8),
    options=None,
    norm="batch",
    dtype="float32",
    micro_batches=1,
    void=False,
    label_sets=None,
    **strength,
):
    fields = {"name": "unet", "widths": widths, "convolutions": 1, "norm": norm, "dtype": dtype}
    head = models.HEADS[head](2, 0.5)
    model = models.create(fields, classes=3, axis_name=axis_name, parts=head)
    objective = mitigation.create(objective, {})
    optimizer = optimizer or optax.sgd(0.1)
    options = options or steps.StepOptions()
    definition = steps.StepDefinition(
        model,
        losses.dice_cross_entropy,
        objective,
        optimizer,
        Augmentation(**strength),
        jnp.asarray(anatomy.add_void(FLIPPED)) if void else jnp.arange(3),
        groups=2,
        options=options._replace(axis_name=axis_name, micro_batches=micro_batches, has_void=void),
        label_sets=label_sets,
    )
    step = steps.make_train_step(definition)
    single = models.create(fields, classes=3, parts=head)
    first = states.create(jnp.uint32(0), single, GRID, optimizer, objective, COUNTS)
    return step, first


def test_golden_number():
    step, state = parts("erm", flip=0.5, rotation=10.0)
    _, metrics = jax.jit(step)(state, batch())
    np.testing.assert_allclose(
        metrics["loss"],
        GOLDEN,
        rtol=1e-4,
        err_msg="The first step's loss has moved: initialisation, augmentation, network or loss has changed. "
        "If that was meant, put the new number here and say why in the commit.",
    )


GOLDEN = 1.989083


def by_hand(data, widths=(4, 8)):
    """Losses of each example by parameters, for a network in training without any random draw."""
    model = models.UNet(classes=3, widths=widths, convolutions=1)
    image = models.standardize(data["image"])

    def losses_of(state, params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, _ = model.apply(variables, image, train=True, mutable=["batch_stats"])
        return losses.dice_cross_entropy(logits, data["label"].astype(np.int32))

    return losses_of


def test_the_gradient_is_that_of_the_weighted_losses():
    """The trap: a weighted loss whose gradient is lost, or that adjusts the reported loss."""
    step, state = parts("reweighted")
    data = batch()
    data["weight"] = np.linspace(0.5, 1.5, 8).astype(np.float32)
    weight = np.where(data["group"] < 0, 0, np.array([2 / 3, 2.0])[data["group"]]) / 7 * data["weight"]
    losses_of = by_hand(data)

    @jax.jit
    def weighed(params):
        raw = losses_of(state, params)
        return (weight * raw).sum(), raw

    (_, raw), gradient = jax.value_and_grad(weighed, has_aux=True)(state.params)
    raw = np.asarray(raw)
    new, metrics = jax.jit(step)(state, data)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
    chex.assert_trees_all_close(new.params, expected, atol=1e-5)
    np.testing.assert_allclose(metrics["loss"], (weight * raw).sum(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss_sum"] / metrics["count"], raw.mean(), rtol=1e-5)
    expected = [raw[data["group"] == g].sum() for g in range(2)]
    np.testing.assert_allclose(metrics["group_loss_sum"], expected, rtol=1e-5)
    np.testing.assert_array_equal(metrics["group_count"], [5, 2])


@pytest.mark.parametrize(
    ("objective", "head", "sharpness", "spreads"),
    [
        ("reweighted", "none", 0.0, ("jit", "pmap", "shard_map", "unchecked shard_map")),
        pytest.param("group_dro", "none", 0.0, ("jit", "shard_map"), marks=pytest.mark.slow),
        pytest.param("within_group_cvar", "none", 0.0, ("jit", "pmap"), marks=pytest.mark.slow),
        pytest.param("erm", "adversarial", 0.3, ("jit", "shard_map"), marks=pytest.mark.slow),
        pytest.param("erm", "moe", 0.0, ("jit",), marks=pytest.mark.slow),
    ],
)
def test_jit_pmap_and_shard_map_agree_with_one_device(objective, head, sharpness, spreads):
    """For the other objectives, `tests/mitigation` has it of their weights."""
    setting = {"flip": 0.5, "noise": 0.05, "head": head, "widths": (4,)}
    setting["options"] = steps.StepOptions(sharpness=sharpness, ramp_steps=10 * (head == "adversarial"))
    step, state = parts(objective, **setting)
    state, data = state._replace(step=state.step + 3), batch()
    expected, metrics = jax.jit(step)(state, data)
    assert (metrics["auxiliary"] > 0) == (head == "adversarial")

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    local, _ = parts(objective, axis_name="data", **setting)
    results = {}
    if "jit" in spreads:
        split = jax.sharding.NamedSharding(mesh, P("data"))
        replicated = jax.sharding.NamedSharding(mesh, P())
        results["jit"] = jax.jit(step)(jax.device_put(state, replicated), jax.device_put(data, split))
    if "pmap" in spreads:
        rows = jax.tree.map(lambda x: x.reshape(8, 1, *x.shape[1:]), data)
        by_pmap = jax.pmap(local, axis_name="data", in_axes=(None, 0))(state, rows)
        results["pmap"] = jax.tree.map(lambda x: np.asarray(x)[0], by_pmap)
    for name in {"shard_map", "unchecked shard_map"} & set(spreads):
        specs = {"in_specs": (P(), P("data")), "out_specs": (P(), P())}
        mapped = jax.shard_map(local, mesh=mesh, check_vma=name == "shard_map", **specs)
        results[name] = jax.jit(mapped)(state, data)
    for name, (new, numbers) in results.items():
        try:
            chex.assert_trees_all_close(new, expected, atol=2e-6)
            chex.assert_trees_all_close(numbers, metrics, rtol=1e-5, atol=1e-5)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


def test_sharpness_follows_the_gradient_at_the_peak_and_counts_the_batch_once():
    """Foret et al. 2021: g(w + rho g(w) / |g(w)|), with the weights that the objective gave at w."""
    rho, data = 0.3, batch()
    data["weight"] = np.linspace(0.5, 1.5, 8).astype(np.float32)
    step, state = parts("group_dro", widths=(4,), options=steps.StepOptions(sharpness=rho))
    new, metrics = jax.jit(step)(state, data)
    losses_of = by_hand(data, widths=(4,))

    @jax.jit
    def expected(params):
        raw = losses_of(state, params)
        weights, objective = mitigation.group_dro().update(raw, data["group"], data["mask"], state.objective)
        weights = weights * data["weight"]
        gradient = jax.grad(lambda p: (weights * losses_of(state, p)).sum())
        first = gradient(params)
        norm = jnp.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(first)))
        at_peak = gradient(jax.tree.map(lambda p, g: p + rho * g / norm, params, first))
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, at_peak), objective, norm

    params, objective, norm = expected(state.params)
    chex.assert_trees_all_close(new.params, params, atol=1e-5)
    chex.assert_trees_all_close(new.objective, objective, atol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)
    plain, _ = parts("group_dro", widths=(4,))
    without, _ = jax.jit(plain)(state, data)
    # Statistics are those of the batch where we stand, taken once; and the peak's gradient is another.
    chex.assert_trees_all_close(new.batch_stats, without.batch_stats, atol=1e-6)
    moved = jax.tree.map(lambda a, b: abs(a - b).max(), new.params, without.params)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_gradient_reversal_starts_at_no_strength_where_it_rises():
    """At step 0 the encoder moves as without an adversary; at half of the steps, nearly as with a constant strength."""
    moved = {}
    for name, head, ramp_steps in (
        ("none", "none", 0),
        ("ramp", "adversarial", 4),
        ("constant", "adversarial", 0),
    ):
        step, state = parts("erm", head=head, widths=(4,), options=steps.StepOptions(ramp_steps=ramp_steps))
        run = jax.jit(step)
        for at in (0, 2):
            new, _ = run(state._replace(step=jnp.full_like(state.step, at)), batch())
            moved[name, at] = new.params["encoder_0"]
    chex.assert_trees_all_close(moved["ramp", 0], moved["none", 0], atol=1e-7)
    differences = {
        name: optax.tree.norm(optax.tree.sub(moved[name, 2], moved["none", 2]))
        for name in ("ramp", "constant")
    }
    np.testing.assert_allclose(differences["ramp"] / differences["constant"], np.tanh(2.5), rtol=2e-3)


def test_only_one_part_of_the_network_has_a_gradient():
    options = steps.StepOptions(trainable="head", sharpness=0.1)
    step, state = parts("erm", options=options, head="moe", widths=(4,))
    new, _ = jax.jit(step)(state, batch())
    rest, before = dict(new.params), dict(state.params)
    assert abs(rest.pop("head")["kernel"] - before.pop("head")["kernel"]).max() > 1e-3
    chex.assert_trees_all_equal((rest, new.batch_stats), (before, state.batch_stats))


def test_a_teacher_of_experts_uses_the_router_of_its_own_group():
    step, state = parts("erm", head="moe", widths=(4,), options=steps.StepOptions(distillation=1.0))
    rng, run = np.random.default_rng(0), jax.jit(step)
    teachers = jax.tree.map(lambda x: jnp.stack([x, x]) + 0.2 * rng.random((2, *x.shape)), state.variables)
    _, metrics = run(state, batch(), teachers)
    router = teachers["params"]["bottleneck"][
        "Dense_0"
    ]  # [teacher, group x expert] scores, four of each group
    for group, same in ((1, True), (0, False)):
        bias = router["bias"].at[0, 4 * group].add(50.0)
        changed = {"bottleneck": teachers["params"]["bottleneck"] | {"Dense_0": router | {"bias": bias}}}
        _, other = run(state, batch(), teachers | {"params": teachers["params"] | changed})
        assert (other["auxiliary"] == metrics["auxiliary"]) == same


def test_padding_changes_nothing_but_batch_statistics_are_the_caller_s_care():
    step, state = parts("erm", optimizer=optax.sgd(0.0))
    data = batch()
    data["mask"] = np.array([1, 1, 1, 1, 0, 0, 0, 0], np.float32)
    _, metrics = jax.jit(step)(state, data)
    assert metrics["count"] == 4
    np.testing.assert_array_equal(metrics["group_count"], [3, 1])


def test_the_reported_loss_of_vrex_is_the_objective():
    step, state = parts("vrex", widths=(4,))
    _, metrics = jax.jit(step)(state, batch())
    means = metrics["group_loss_sum"] / metrics["group_count"]
    np.testing.assert_allclose(metrics["loss"], means.mean() + means.var(), rtol=1e-5)
    assert means.var() > 1e-5


def test_computes_in_bfloat16_and_keeps_losses_statistics_and_parameters_in_float32():
    step, state = parts("group_dro", dtype="bfloat16")
    given = {name: jnp.asarray(array) for name, array in batch().items()}
    text = str(jax.make_jaxpr(step)(state, given))
    assert re.search(r"bf16\[8,8,8,4\] = conv", text)
    new, metrics = jax.eval_shape(step, state, given)
    chex.assert_trees_all_equal_shapes_and_dtypes(new, state)
    assert {leaf.dtype for leaf in jax.tree.leaves((metrics, new.params, new.batch_stats))} == {
        jnp.dtype("float32")
    }


def test_a_case_of_weight_zero_teaches_nothing():
    step, state = parts("erm")
    data = batch()
    data["weight"][:] = 0
    new, _ = jax.jit(step)(state, data)
    chex.assert_trees_all_close(new.params, state.params)
    assert new.step == 1


def test_random_draws_follow_the_step():
    step, state = parts("erm", optimizer=optax.sgd(0.0), noise=0.5)
    run = jax.jit(step)
    first, metrics_first = run(state, batch())
    _, metrics_second = run(first, batch())
    _, metrics_again = run(state, batch())
    assert metrics_first["loss"] == metrics_again["loss"] != metrics_second["loss"]


def test_compiles_once():
    step, state = parts("erm")
    counted = jax.jit(chex.assert_max_traces(step, n=1))
    for _ in range(3):
        state, _ = counted(state, batch())


def test_evaluation_scores_each_case_and_never_donates():
    model = models.UNet(classes=3, widths=(4, 8), convolutions=1)
    _, state = parts()
    data = batch()
    evaluate = jax.jit(steps.make_eval_step(model, losses.cross_entropy, 2))
    scores = evaluate(state.variables, data)
    mapped = jax.jit(steps.make_case_step(model, 2, jnp.arange(3)))(state.variables, data)
    predicted = mapped.pop("prediction")
    calibrated = {name: mapped.pop(name) for name in ("ece", "soft_dice", "pixels", "confidence", "accuracy")}
    chex.assert_tree_all_finite(calibrated)
    loss = scores.pop("loss")
    assert loss.shape == (8,)
    chex.assert_trees_all_equal(mapped, scores)
    chex.assert_shape([scores["dice"], scores["iou"], scores["true_pixels"]], (8, 2))
    assert predicted.dtype == jnp.uint8
    for s in range(2):
        p, t = np.asarray(predicted) == s + 1, data["label"] == s + 1
        both, either = (p & t).sum((1, 2)), p.sum((1, 2)) + t.sum((1, 2))
        np.testing.assert_allclose(scores["dice"][:, s], 2 * both / either, rtol=1e-6)
        np.testing.assert_array_equal(scores["pred_pixels"][:, s], p.sum((1, 2)))
    chex.assert_trees_all_equal(evaluate(state.variables, data), scores | {"loss": loss})


def test_a_case_step_scores_in_another_scheme():
    fields = {"name": "unet", "widths": (4, 8), "convolutions": 1, "norm": "group", "dtype": "float32"}
    model, given = models.create(fields, classes=3), batch()
    variables = {"params": model.init(jax.random.key(0), given["image"])["params"]}
    # Label 1 is dropped, label 2 is what the others call 1.
    step = jax.jit(steps.make_case_step(model, 1, jnp.array([0, 0, 1])))
    given["label"] = (given["label"] == 2).astype(np.uint8)
    scores = step(variables, given)
    logits = model.apply(variables, models.standardize(given["image"]))
    predicted = np.asarray(logits.argmax(-1)) == 2
    np.testing.assert_array_equal(scores["prediction"], predicted)
    assert scores["prediction"].dtype == np.uint8
    true = given["label"] == 1
    both = (predicted & true).sum((1, 2))
    np.testing.assert_allclose(
        scores["dice"][:, 0], 2 * both / (predicted.sum((1, 2)) + true.sum((1, 2))), rtol=1e-6
    )
    assert scores["dice"].shape == (8, 1) and "loss" not in scores
    sums = metrics.reliability(jax.nn.softmax(logits)[..., 2:], given["label"])
    np.testing.assert_allclose(scores["confidence"], sums.confidence, rtol=1e-4)
    np.testing.assert_allclose(scores["ece"], metrics.ece(sums), rtol=1e-4)
    probability = np.asarray(jax.nn.softmax(logits)[..., 2])
    soft = [quality.soft_dice(*pair) for pair in zip(predicted, probability, strict=True)]
    np.testing.assert_allclose(scores["soft_dice"][:, 0], soft, rtol=1e-5)


@pytest.mark.slow
def test_a_case_step_scores_structures_that_share_labels():
    """The probability of a structure is the sum of those of its labels."""
    model, data = models.UNet(classes=3, widths=(4, 8), convolutions=1, norm="group"), batch()
    variables = {"params": model.init(jax.random.key(0), data["image"])["params"]}
    members = np.array([[False, True, True], [False, False, True]])
    scores = jax.jit(steps.make_case_step(model, members, jnp.arange(3)))(variables, data)
    probability = jax.nn.softmax(model.apply(variables, models.standardize(data["image"])))
    merged = jnp.stack([probability[..., 1:].sum(-1), probability[..., 2]], -1)
    sums = metrics.reliability(merged, data["label"], structures=members)
    np.testing.assert_allclose(scores["ece"], metrics.ece(sums), rtol=1e-4)
    predicted, true = np.asarray(probability.argmax(-1)), data["label"]
    both = ((predicted > 0) & (true > 0)).sum((1, 2))
    expected = 2 * both / ((predicted > 0).sum((1, 2)) + (true > 0).sum((1, 2)))
    np.testing.assert_allclose(scores["dice"][:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(scores["prediction"], predicted)


def test_a_feature_step_gives_the_encoder_s_last_features():
    model, given = models.UNet(classes=3, widths=(4, 8), convolutions=1, norm="group"), batch()
    variables = {"params": model.init(jax.random.key(0), given["image"])["params"]}
    features = jax.jit(steps.make_feature_step(model))(variables, given)["features"]
    _, seen = model.apply(
        variables,
        models.standardize(given["image"]),
        capture_intermediates=lambda module, _: module.name == "encoder_1",
        mutable=["intermediates"],
    )
    deepest = seen["intermediates"]["encoder_1"]["__call__"][0]
    assert deepest.shape == (8, 4, 4, 8)
    np.testing.assert_allclose(features, deepest.mean((1, 2)), rtol=1e-5, atol=1e-6)


def with_void(data):
    """The batch with void pixels at random; the sixth mask is void alone."""
    void = np.random.default_rng(1).uniform(size=data["label"].shape) < 0.3
    void[5] = True
    return data | {"label": np.where(void, anatomy.VOID, data["label"]).astype(np.uint8)}, ~void


def test_a_step_learns_nothing_from_void_pixels():
    step, state = parts("reweighted", void=True)
    data, valid = with_void(batch())
    weight = np.where(data["group"] < 0, 0, np.array([2 / 3, 2.0])[data["group"]]) * (np.arange(8) != 5) / 6
    model = models.UNet(classes=3, widths=(4, 8), convolutions=1)

    def weighed(params, label):
        variables = {"params": params, "batch_stats": state.batch_stats}
        image = models.standardize(data["image"])
        logits, _ = model.apply(variables, image, train=True, mutable=["batch_stats"])
        raw = losses.dice_cross_entropy(logits, label, valid)
        return (weight * raw).sum(), raw

    # Whatever the masks call void pixels: here background.
    known = np.where(valid, data["label"], 0).astype(np.int32)
    (value, raw), gradient = jax.jit(jax.value_and_grad(weighed, has_aux=True))(state.params, known)
    new, scores = jax.jit(step)(state, data)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradient)
    chex.assert_trees_all_close(new.params, expected, atol=1e-5)
    np.testing.assert_allclose(scores["loss"], value, rtol=1e-5)
    # The mask of void alone counts as padding.
    assert scores["count"] == 7 and scores["group_count"].tolist() == [4, 2]
    np.testing.assert_allclose(scores["loss_sum"], np.delete(raw, 5).sum(), rtol=1e-5)


def test_a_step_for_void_is_the_usual_one_where_no_pixel_is_void():
    data = batch() | {"label": np.zeros((8, 8, 8), np.uint8)}  # of background, which a flip leaves as it is
    usual, new = (
        jax.jit(step)(state, data)
        for step, state in (parts("erm", widths=(4,), void=void, flip=1.0) for void in (False, True))
    )
    chex.assert_trees_all_close(usual[0].params, new[0].params, rtol=1e-5, atol=1e-7)
    chex.assert_trees_all_close(usual[1], new[1], rtol=1e-5)


def test_micro_batches_with_void_add_up_to_the_batch():
    data, _ = with_void(batch())
    whole, in_two = (
        jax.jit(step)(state, data)
        for step, state in (parts(void=True, norm="group", widths=(4,), micro_batches=n) for n in (1, 2))
    )
    chex.assert_trees_all_close(whole[0].params, in_two[0].params, rtol=1e-4, atol=1e-6)
    assert whole[1]["count"] == in_two[1]["count"] == 7


def test_a_flip_swaps_labels_and_leaves_void():
    label, image = jnp.array([[0, 1, 2, anatomy.VOID]]), jnp.zeros((1, 4, 1))
    table = jnp.asarray(anatomy.add_void(FLIPPED))
    _, flipped = vary_geometry(jax.random.key(0), image, label, Augmentation(flip=1.0), table)
    assert flipped.tolist() == [[anatomy.VOID, 1, 2, 0]]


def test_scores_leave_void_out_and_predictions_do_not():
    fields = {"name": "unet", "widths": (4, 8), "convolutions": 1, "norm": "group", "dtype": "float32"}
    model, (data, valid) = models.create(fields, classes=3), with_void(batch())
    variables = {"params": model.init(jax.random.key(0), data["image"])["params"]}
    scores = jax.jit(steps.make_eval_step(model, losses.cross_entropy, 2, void=True))(variables, data)
    step = steps.make_case_step(model, 2, jnp.arange(3), void=True)
    cases = jax.jit(step)(variables, data)
    predicted = np.asarray(cases["prediction"])
    usual = jax.jit(steps.make_case_step(model, 2, jnp.arange(3)))(variables, batch())
    np.testing.assert_array_equal(predicted, usual["prediction"])
    for s in range(2):
        p, t = (predicted == s + 1) & valid, data["label"] == s + 1
        both, either = (p & t).sum((1, 2)), p.sum((1, 2)) + t.sum((1, 2))
        with np.errstate(invalid="ignore"):
            np.testing.assert_allclose(scores["dice"][:, s], 2 * both / either, rtol=1e-6)
        np.testing.assert_array_equal(scores["pred_pixels"][:, s], p.sum((1, 2)))
        np.testing.assert_array_equal(cases["dice"][:, s], scores["dice"][:, s])
    # A mask of void alone has no score.
    assert np.isnan(scores["dice"][5]).all() and np.isnan(cases["ece"][5]).all() and scores["loss"][5] == 0


def test_teachers_say_nothing_of_void_pixels():
    rng = np.random.default_rng(0)
    logits, taught = rng.normal(size=(2, 3, 3, 4)), rng.normal(size=(2, 2, 3, 3, 4))
    valid = rng.uniform(size=(2, 3, 3)) > 0.4
    group = jnp.array([0, 1])
    value = losses.distillation(jnp.asarray(logits), jnp.asarray(taught), group, valid)
    changed = np.where(valid[..., None], logits, 7.0)
    np.testing.assert_array_equal(
        losses.distillation(jnp.asarray(changed), jnp.asarray(taught), group, valid), value
    )
    own = [
        losses.distillation(
            jnp.asarray(logits[i][valid[i]][None, None]),
            jnp.asarray(taught[:, i][:, valid[i]][:, None, None]),
            group[i : i + 1],
        )[0]
        for i in range(2)
    ]
    np.testing.assert_allclose(value, own, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation_at_a_temperature_is_hinton_s(temperature):
    rng = np.random.default_rng(0)
    logits, taught = rng.normal(size=(3, 2, 2, 4)), rng.normal(size=(2, 3, 2, 2, 4))
    group = np.array([1, 0, -1])

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    expected = np.zeros(3)
    for i in range(2):
        teacher, student = softmax(taught[group[i], i] / temperature), softmax(logits[i] / temperature)
        expected[i] = temperature**2 * (teacher * np.log(teacher / student)).sum(-1).mean()
    arrays = (jnp.asarray(logits), jnp.asarray(taught), jnp.asarray(group))
    np.testing.assert_allclose(
        losses.distillation(*arrays, temperature=temperature), expected, rtol=1e-4, atol=1e-6
    )


def test_masks_of_some_structures_train_against_the_sum_of_the_others():
    """Example by example, the losses of the step are those of the sets of its kind of mask."""
    sets = np.stack([np.eye(3, dtype=bool), anatomy.label_sets(("a", "b"), ("a",))])
    data = batch()
    label = np.where(data["label"] == 2, 0, data["label"])  # of the second kind
    kind = np.arange(len(label), dtype=np.int32) % 2
    data["label"] = np.where(kind[:, None, None] == 1, label, data["label"])
    step, state = parts("erm", label_sets=jnp.asarray(sets))
    _, metrics = jax.jit(step)(state, data | {"annotation": kind})
    model = models.UNet(classes=3, widths=(4, 8), convolutions=1)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    image = models.standardize(data["image"])
    logits, _ = model.apply(variables, image, train=True, mutable=["batch_stats"])
    each = [
        losses.dice_cross_entropy(logits[i : i + 1], data["label"][i : i + 1], sets=sets[kind[i]][None])[0]
        for i in range(len(kind))
    ]
    np.testing.assert_allclose(metrics["loss_sum"], (np.array(each) * data["mask"]).sum(), rtol=1e-4)


def test_overlaps_of_structures_that_a_mask_does_not_show_are_nan():
    sets = np.stack([np.eye(3, dtype=bool), anatomy.label_sets(("a", "b"), ("a",))])
    _, state = parts("erm")
    model = models.UNet(classes=3, widths=(4, 8), convolutions=1)
    data = batch()
    kind = np.arange(len(data["label"]), dtype=np.int32) % 2
    step = steps.make_eval_step(model, losses.dice_cross_entropy, 2, label_sets=jnp.asarray(sets))
    scores = step(state.variables, data | {"annotation": kind})
    plain = steps.make_eval_step(model, losses.dice_cross_entropy, 2)(state.variables, data)
    for name in ("dice", "iou"):
        np.testing.assert_array_equal(scores[name][:, 0], plain[name][:, 0])
        np.testing.assert_array_equal(scores[name][::2], plain[name][::2])
        assert np.isnan(scores[name][1::2, 1]).all()
