"""The pure functions of a run: train, score, and score with label maps. All static choices are closed over once."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kneefair_jax.anatomy import VOID
from kneefair_jax.data.augment import Augmentation, augment
from kneefair_jax.fairness.summaries import group_sums
from kneefair_jax.losses import Loss, distillation, is_determined
from kneefair_jax.metrics import Overlap, Structures, dice, ece, iou, overlap, reliability
from kneefair_jax.metrics.overlap import structure_masks
from kneefair_jax.mitigation import GroupObjective, ascend
from kneefair_jax.mitigation.objective import global_sum, safe_divide
from kneefair_jax.models import standardize
from kneefair_jax.models.heads import ramp
from kneefair_jax.training import sharding
from kneefair_jax.training.state import TrainState

NETWORK_KEYS = 0x9A275  # names the stream of random keys for parts of the network, beside augmentation's

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[..., tuple[TrainState, Metrics]]
TrainSteps = Callable[..., tuple[TrainState, tuple[Metrics, ...]]]
Draw = Callable[[Any, Any, dict[str, Any]], dict[str, Any]]
EvalStep = Callable[[dict[str, Any], Batch], dict[str, jax.Array]]


class StepOptions(NamedTuple):
    """Static choices of a training step beyond the objective.

    Attributes:
        trainable: the top-level part of the parameters that has a gradient; the network then runs as at test time, so
            that batch statistics stay as they are. None: all parts.
        sharpness: the radius of sharpness-aware minimization (`mitigation.sharpness`); 0: none.
        distillation: the weight of `distillation`, where the step gets teachers.
        temperature: of the distilled probabilities.
        ramp_steps: the steps over which gradient reversal gains its strength (`heads.ramp`); 0: constant strength.
        ema: decay of the exponential moving average of the variables (`moving_average`); 0: none.
        axis_name: set inside `jax.pmap` or `jax.shard_map`; None under plain `jax.jit`, where the batch is global.
        micro_batches: parts of a batch that go through the network one after another (`sharding`); more than 1
            only with a linear objective.
        has_void: whether labels hold `anatomy.VOID`, whose pixels no loss sees; an example without any other pixel (a
            warp can move all of them out) counts as padding. Static: without it, nothing is computed for it.
        draw: adds `image` and `label` to the batch of a seed and a step (`data.source.Online`); None where the batch
            has them.
    """

    trainable: str | None = None
    sharpness: float = 0.0
    distillation: float = 0.0
    temperature: float = 1.0
    ramp_steps: int = 0
    ema: float = 0.0
    axis_name: str | None = None
    micro_batches: int = 1
    has_void: bool = False
    draw: Draw | None = None


class StepDefinition(NamedTuple):
    """What a training step is made of; all of it is static.

    Attributes:
        model: the network; its batch statistics pool over the axis of `options`.
        loss: per example.
        objective: turns losses into weights of the global batch.
        optimizer: of the parameters.
        augmentation: strength of the random variation.
        flip_table: i32[labels], labels after a left-right flip, `VOID` included where labels hold it.
        groups: G.
        options: everything else.
        label_sets: bool[K, C, C], the sets of labels (`anatomy.label_sets`) of each kind of mask, where `annotation`
            of a batch gives each example's kind; None where masks show all structures.
    """

    model: nn.Module
    loss: Loss
    objective: GroupObjective
    optimizer: optax.GradientTransformation
    augmentation: Augmentation
    flip_table: jax.Array
    groups: int
    options: StepOptions = StepOptions()
    label_sets: jax.Array | None = None


def make_train_step(definition: StepDefinition) -> TrainStep:
    """Return one update: augment, forward, per-example losses, group weights, backward, optimizer.

    Returns:
        `train_step(state, batch, teachers=None) -> (state, metrics)`; `teachers`, the variables of one model a group,
        stacked, are distilled. Metrics are `loss` (the objective's value F, and auxiliary losses), `auxiliary` (their
        part of it), `gradient_norm`, and sums with their counts: `loss_sum`, `count`, `group_loss_sum` f32[G],
        `group_count` f32[G] of the *raw* losses, so that averages over steps and devices are exact.
    """
    objective, options = definition.objective, definition.options
    axis_name = options.axis_name

    def train_step(state: TrainState, batch: Batch, teachers: Any = None) -> tuple[TrainState, Metrics]:
        params = state.optimized["params"]
        examples = training_examples(definition, state, batch)
        group, mask = examples["group"], examples["mask"]
        if options.micro_batches > 1:
            # Before the first micro-batch no loss is known, and weights of a linear objective need none.
            zeros = jnp.zeros_like(mask)
            examples["weights"] = objective_weights(definition, zeros, examples, state.objective)[0]
        gradient, (outputs, batch_stats) = gradients(definition, state, params, examples, teachers)
        losses, auxiliary = outputs["loss"], global_sum(outputs["auxiliary"], axis_name)
        weights, objective_state = objective_weights(definition, losses, examples, state.objective)
        value = objective.value(weights, losses, group, mask, state.objective, axis_name)
        norm = optax.tree.norm(gradient)
        if options.sharpness:
            # With the weights at the current parameters.
            peak = ascend(params, gradient, options.sharpness)
            gradient, _ = gradients(definition, state, peak, examples | {"weights": weights}, teachers)
        updates, opt_state = definition.optimizer.update(gradient, state.opt_state, params)
        sums = group_sums(losses, jax.nn.one_hot(group, definition.groups), mask, axis_name)
        metrics = {
            "loss": value + auxiliary,
            "auxiliary": auxiliary,
            "gradient_norm": norm,
            "loss_sum": global_sum(losses * mask, axis_name),
            "count": global_sum(mask, axis_name),
            "group_loss_sum": sums.total,
            "group_count": sums.counts,
        }
        variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
        return state.updated(variables, opt_state, objective_state, options.ema), metrics

    return train_step


def training_examples(definition: StepDefinition, state: TrainState, batch: Batch) -> Batch:
    """Draw and augment the examples of a step.

    Returns:
        `image` f32[B, H, W, C], standardized; `label` i32[B, H, W]; `group` i32[B]; `mask` f32[B]; `weight` f32[B];
        `keys`, a random key for each example; `auxiliary_weight` f32[B]; with void pixels, `valid` bool[B, H, W]; with
        masks of some structures, `sets` bool[B, C, C].
    """
    options = definition.options
    key = jax.random.fold_in(jax.random.key(state.seed), state.step)
    if options.draw is not None:
        batch = options.draw(state.seed, state.step, batch)
    image = batch["image"]
    image, label = augment(
        key,
        image.astype(jnp.float32) / 255.0 if image.dtype == jnp.uint8 else image,
        batch["label"].astype(jnp.int32),
        batch["position"],
        strength=definition.augmentation,
        flip_table=definition.flip_table,
    )
    mask, group = batch["mask"], batch["group"]
    valid = _valid(label, options.has_void)
    if valid is not None:
        mask = mask * valid.any((1, 2))
    # An auxiliary loss of an unknown group is 0, and its example is not counted.
    grouped = mask * (group >= 0)
    return {
        "image": standardize(image),
        "label": label,
        "group": group,
        "mask": mask,
        "weight": batch["weight"],
        # By place in the global batch, so that the number of devices changes no draw.
        "keys": jax.vmap(jax.random.fold_in, (None, 0))(
            jax.random.fold_in(key, NETWORK_KEYS), batch["position"]
        ),
        "auxiliary_weight": safe_divide(grouped, global_sum(grouped, options.axis_name)),
        **({} if valid is None else {"valid": valid}),
        **_sets(definition.label_sets, batch),
    }


def per_example_losses(
    definition: StepDefinition, variables: dict[str, Any], examples: Batch, step: jax.Array, teachers: Any
) -> tuple[jax.Array, jax.Array, Any]:
    """Return the segmentation's losses f32[B], the auxiliary losses f32[B], and the batch statistics after the pass.

    Args:
        definition: of the step.
        variables: `params` and `batch_stats` of the network.
        examples: of `training_examples`, or a micro-batch of them.
        step: i32[], updates before this one.
        teachers: as for `make_train_step`.
    """
    model, options = definition.model, definition.options
    params, valid = variables["params"], examples.get("valid")
    if options.trainable:
        params = {
            name: tree if name == options.trainable else jax.lax.stop_gradient(tree)
            for name, tree in params.items()
        }
    schedule = {"bottleneck": {"ramp": ramp(step / options.ramp_steps)}} if options.ramp_steps else {}
    logits, updates = model.apply(
        {**variables, "params": params, "schedule": schedule},
        examples["image"],
        train=options.trainable is None,
        group=examples["group"],
        keys=examples["keys"],
        mutable=["losses"] if options.trainable else ["batch_stats", "losses"],
    )
    auxiliary = sum(jax.tree.leaves(updates.get("losses", {})), jnp.zeros_like(examples["mask"]))
    if teachers is not None:
        # With the group: a teacher's router is its own group's.
        teacher_logits = jax.vmap(
            lambda teacher: model.apply(teacher, examples["image"], group=examples["group"])
        )(teachers)
        auxiliary += options.distillation * distillation(
            jnp.asarray(logits), jnp.asarray(teacher_logits), examples["group"], valid, options.temperature
        )
    sets = {"sets": examples["sets"]} if "sets" in examples else {}
    losses = definition.loss(logits, examples["label"], valid, **sets)
    return losses, auxiliary, updates.get("batch_stats", variables["batch_stats"])


def objective_weights(
    definition: StepDefinition, losses: jax.Array, examples: Batch, objective_state: Any
) -> tuple[jax.Array, Any]:
    """Return the weight of each example, f32[B], and the objective's next state; no gradient passes."""
    weights, objective_state = definition.objective.update(
        jax.lax.stop_gradient(losses),
        examples["group"],
        examples["mask"],
        objective_state,
        definition.options.axis_name,
    )
    return jax.lax.stop_gradient(weights * examples["weight"]), objective_state


def gradients(
    definition: StepDefinition, state: TrainState, params: Any, examples: Batch, teachers: Any
) -> tuple[Any, tuple[dict[str, jax.Array], Any]]:
    """Return the gradient of the weighted losses of the global batch at `params`.

    Args:
        definition: of the step.
        state: its step, batch statistics and objective; not its parameters.
        params: where to take the gradient.
        examples: of `training_examples`; `weights` f32[B], where they are known, replace the objective's.
        teachers: as for `make_train_step`.

    Returns:
        The gradient, and (`loss` and weighted `auxiliary` f32[B], the batch statistics after the pass).
    """
    axis_name = definition.options.axis_name

    def weighted_loss(params: Any, batch_stats: Any, part: Batch) -> tuple[jax.Array, tuple[Any, Any]]:
        variables = {"params": params, "batch_stats": batch_stats}
        losses, auxiliary, batch_stats = per_example_losses(definition, variables, part, state.step, teachers)
        # (B,) against (B, 1) would broadcast to (B, B)
        chex.assert_equal_shape([losses, auxiliary, part["mask"]])
        if "weights" in part:
            weights = part["weights"]
        else:
            weights, _ = objective_weights(definition, losses, part, state.objective)
        auxiliary = part["auxiliary_weight"] * auxiliary
        value = jnp.sum(weights * losses) + jnp.sum(auxiliary)
        return value, ({"loss": losses, "auxiliary": auxiliary}, batch_stats)

    if axis_name is not None:
        # Without this, shard_map's default sums gradients by itself, and they would be summed twice.
        params = jax.tree.map(lambda p: jax.lax.pcast(p, axis_name, to="varying"), params)
    gradient, outputs = sharding.accumulated_gradient(
        weighted_loss, params, state.optimized["batch_stats"], examples, definition.options.micro_batches
    )
    # Weights are those of the global batch, so the devices' gradients add up.
    return gradient if axis_name is None else jax.lax.psum(gradient, axis_name), outputs


def make_eval_step(
    model: nn.Module,
    loss: Loss,
    structures: Structures,
    *,
    void: bool = False,
    label_sets: jax.Array | None = None,
) -> EvalStep:
    """Return the scoring step, `eval_step(variables, batch) -> scores`.

    Scores of a case are `dice` and `iou` f32[B, S], pixels i32[B, S] and `loss` f32[B]. Structures are as for
    `metrics.overlap`. With `void`, all scores exclude pixels with the label `anatomy.VOID`. With `label_sets`, as in
    `StepDefinition`, the overlaps of structures that a mask does not show are NaN.
    """

    def eval_step(variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        logits = _logits(model, variables, batch)
        label = batch["label"].astype(jnp.int32)
        valid = _valid(label, void)
        scores = _overlap_scores(overlap(logits.argmax(-1), label, structures, valid))
        sets = _sets(label_sets, batch)
        if sets:
            members = structure_masks(jnp.arange(logits.shape[-1]), structures).T
            is_scored = is_determined(sets["sets"], members)
            scores |= {name: jnp.where(is_scored, scores[name], jnp.nan) for name in ("dice", "iou")}
        return scores | {"loss": loss(logits, label, valid, **sets)}

    return eval_step


def make_case_step(
    model: nn.Module,
    structures: Structures,
    translation: jax.Array,
    *,
    probabilities: bool = False,
    void: bool = False,
) -> EvalStep:
    """Return `make_eval_step` with label map and calibration, for masks of the network's label scheme or another.

    The step adds `prediction` u8[B, H, W], `ece` and `soft_dice` f32[B, S], and the sums of `metrics.reliability`,
    `pixels`, `confidence` and `accuracy` f32[B, S, bins]. It has no loss, which needs masks of the network's own
    labels. A pixel's prediction is the translation of its likeliest label; for calibration, the probability of a
    structure is the sum over the network's labels with that translation.

    Args:
        model: the network.
        structures: those of the masks' scheme, as for `metrics.overlap`.
        translation: i32[C], each of the network's labels in the masks' scheme (`anatomy.translation`).
        probabilities: whether the step adds `probability` f32[B, H, W, C], of the network's own labels.
        void: whether the masks hold `anatomy.VOID`, whose pixels all scores exclude (`prediction` does not).
    """

    def case_step(variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        logits, label = _logits(model, variables, batch), batch["label"].astype(jnp.int32)
        predicted = jnp.asarray(translation)[logits.argmax(-1)]
        members = structure_masks(jnp.asarray(translation), structures).astype(jnp.float32)
        probability = jax.nn.softmax(logits)
        merged = jnp.einsum("bhwc,cs->bhws", probability, members, precision="highest")
        valid = _valid(label, void)
        sums = reliability(merged, label, valid=valid, structures=structures)
        scores = _overlap_scores(overlap(predicted, label, structures, valid)) | sums._asdict()
        scores |= {"probability": probability} if probabilities else {}
        soft = soft_dice(structure_masks(predicted, structures), merged)
        return scores | {"ece": ece(sums), "soft_dice": soft, "prediction": predicted.astype(jnp.uint8)}

    return case_step


def soft_dice(masks: jax.Array, probability: jax.Array) -> jax.Array:
    """Return the soft Dice f32[B, S] of masks bool[B, H, W, S] with probabilities f32[B, H, W, S]; NaN for empty masks.

    `predict.quality.soft_dice` is the same of one mask, with its reference.
    """
    size = masks.sum((1, 2))
    inside = jnp.where(masks, probability, 0.0).sum((1, 2))
    return jnp.where(size > 0, 2 * inside / (size + probability.sum((1, 2))), jnp.nan)


def _valid(label: jax.Array, void: bool) -> jax.Array | None:
    """Return where labels are known, bool[B, H, W]; None where labels hold no void."""
    return label != VOID if void else None


def _sets(label_sets: jax.Array | None, batch: Batch) -> dict[str, jax.Array]:
    """Return `sets` bool[B, C, C] of a batch's kinds of masks; {} where masks show all structures."""
    return {} if label_sets is None else {"sets": jnp.asarray(label_sets)[batch["annotation"]]}


def _overlap_scores(counts: Overlap) -> dict[str, jax.Array]:
    return {
        "dice": dice(counts),
        "iou": iou(counts),
        "true_pixels": counts.true,
        "pred_pixels": counts.predicted,
    }


def make_feature_step(model: nn.Module) -> EvalStep:
    """Return the step for a case's deepest features, `step(variables, batch)` -> `features` f32[B, C].

    The features are means over the image of the encoder's last layer, before any part of `models.heads`.
    """

    def feature_step(variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        image = standardize(batch["image"])
        _, collections = model.apply(variables, image, group=batch["group"], mutable=["intermediates"])
        return {"features": collections["intermediates"]["deepest"][0].astype(jnp.float32).mean((1, 2))}

    return feature_step


def _logits(model: nn.Module, variables: dict[str, Any], batch: Batch) -> jax.Array:
    """Return the network's logits f32[B, H, W, C] of a batch without augmentation."""
    return cast(jax.Array, model.apply(variables, standardize(batch["image"]), group=batch["group"]))
