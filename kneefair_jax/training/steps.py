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
from kneefair_jax.fairness.group_sums import group_sums
from kneefair_jax.losses import Loss, pixel_mean
from kneefair_jax.metrics import Overlap, Structures, dice, ece, iou, overlap, reliability
from kneefair_jax.metrics.overlap import structure_masks
from kneefair_jax.mitigation import GroupObjective, ascend
from kneefair_jax.mitigation.objective import global_sum, safe_divide
from kneefair_jax.models import standardize
from kneefair_jax.models.heads import ramp
from kneefair_jax.training import accumulation
from kneefair_jax.training.state import TrainState

PARTS = 0x9A275  # names the stream of random keys for parts of the network, beside augmentation's

Batch = dict[str, jax.Array]
TrainStep = Callable[..., tuple[TrainState, dict[str, jax.Array]]]
Draw = Callable[[Any, Any, dict[str, Any]], dict[str, Any]]
EvalStep = Callable[[dict[str, Any], Batch], dict[str, jax.Array]]


class Extras(NamedTuple):
    """What a step does beyond the objective.

    Attributes:
        only: the top-level part of the parameters that has a gradient; the network is then run as at test time, so
            that batch statistics stay as they are. None for all of it.
        sharpness: the radius of sharpness-aware minimisation (`mitigation.sharpness`); 0 for none.
        distillation: the weight of `distillation`, where the step is given teachers.
        temperature: of the distilled probabilities.
        ramp_steps: the steps over which gradient reversal gains its strength (`heads.ramp`); 0 where it is constant.
        ema: decay of the exponential moving average of the variables (`moving_average`); 0 for none.
    """

    only: str | None = None
    sharpness: float = 0.0
    distillation: float = 0.0
    temperature: float = 1.0
    ramp_steps: int = 0
    ema: float = 0.0


NO_EXTRAS = Extras()


def make_train_step(
    model: nn.Module,
    loss: Loss,
    objective: GroupObjective,
    optimizer: optax.GradientTransformation,
    *,
    augmentation: Augmentation,
    flip_table: jax.Array,
    groups: int,
    extras: Extras = NO_EXTRAS,
    axis_name: str | None = None,
    parts: int = 1,
    void: bool = False,
    draw: Draw | None = None,
) -> TrainStep:
    """One update: augment, forward, per-example losses, group weights, backward, optimiser.

    Args:
        model: the network; its batch statistics pool over the same `axis_name`.
        loss: per example.
        objective: turns losses into weights of the global batch.
        optimizer: of the parameters.
        augmentation: strength of the random variation.
        flip_table: labels after a left/right flip, `VOID` included where labels hold it.
        groups: G.
        extras: what else it does.
        axis_name: set inside `jax.pmap` or `jax.shard_map`; None under plain `jax.jit`, where the batch is global.
        parts: of a batch that go through the network one after another (`accumulation`); more than 1 only with an
            objective of `mitigation.LINEAR`.
        void: whether labels hold `anatomy.VOID`, whose pixels no loss sees; an example without any other pixel (a warp
            can move all of them out) counts as padding. Static: without it, nothing is computed for it.
        draw: adds `image` and `label` to the batch of a seed and a step (`data.source.Online`); None where the batch
            has them.

    Returns:
        `train_step(state, batch, teachers=None) -> (state, metrics)`; `teachers`, the variables of one model a group,
        stacked, are distilled. Metrics are `loss` (the objective's value F, and auxiliary losses), `auxiliary` (their
        part of it), `gradient_norm`, and sums with their counts: `loss_sum`, `count`, `group_loss_sum` f32[G],
        `group_count` f32[G] of the *raw* losses, so that averages over steps and devices are exact.
    """

    def train_step(
        state: TrainState, batch: Batch, teachers: Any = None
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        optimized = state.optimized
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        if draw is not None:
            batch = draw(state.seed, state.step, batch)
        image = batch["image"]
        image = image.astype(jnp.float32) / 255.0 if image.dtype == jnp.uint8 else image
        image, label = augment(
            key,
            image,
            batch["label"].astype(jnp.int32),
            batch["position"],
            strength=augmentation,
            flip_table=flip_table,
        )
        image = standardize(image)
        mask, group = batch["mask"], batch["group"]
        valid = _valid(label, void)
        if valid is not None:
            mask = mask * valid.any((1, 2))
        # By place in the global batch, so that the number of devices changes no draw.
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, PARTS), batch["position"])
        # What an auxiliary loss says of unknown groups is 0, and they are not counted either.
        known = mask * (group >= 0)
        examples = {
            "image": image,
            "label": label,
            "group": group,
            "mask": mask,
            "keys": keys,
            "auxiliary_weight": safe_divide(known, global_sum(known, axis_name)),
        }
        if valid is not None:
            examples["valid"] = valid

        schedule = {"bottleneck": {"ramp": ramp(state.step / extras.ramp_steps)}} if extras.ramp_steps else {}

        def losses_of(params: Any, batch_stats: Any, part: Batch) -> tuple[jax.Array, jax.Array, Any]:
            if extras.only:
                params = {n: p if n == extras.only else jax.lax.stop_gradient(p) for n, p in params.items()}
            logits, updates = model.apply(
                {"params": params, "batch_stats": batch_stats, "schedule": schedule},
                part["image"],
                train=extras.only is None,
                group=part["group"],
                keys=part["keys"],
                mutable=["losses"] if extras.only else ["batch_stats", "losses"],
            )
            auxiliary = sum(jax.tree.leaves(updates.get("losses", {})), jnp.zeros_like(part["mask"]))
            if teachers is not None:
                # With the group: a teacher's router is its own group's.
                taught = jax.vmap(lambda their: model.apply(their, part["image"], group=part["group"]))(
                    teachers
                )
                auxiliary += extras.distillation * distillation(
                    jnp.asarray(logits),
                    jnp.asarray(taught),
                    part["group"],
                    part.get("valid"),
                    extras.temperature,
                )
            return (
                loss(logits, part["label"], part.get("valid")),
                auxiliary,
                updates.get("batch_stats", batch_stats),
            )

        def weights_of(losses: jax.Array) -> tuple[jax.Array, Any]:
            weights, objective_state = objective.update(
                jax.lax.stop_gradient(losses), group, mask, state.objective, axis_name
            )
            return jax.lax.stop_gradient(weights * batch["weight"]), objective_state

        def value_of(params: Any, batch_stats: Any, part: Batch) -> tuple[jax.Array, tuple[Any, Any]]:
            losses, auxiliary, batch_stats = losses_of(params, batch_stats, part)
            # (B,) against (B, 1) would broadcast to (B, B)
            chex.assert_equal_shape([losses, auxiliary, part["mask"]])
            weights = part["weights"] if "weights" in part else weights_of(losses)[0]
            auxiliary = part["auxiliary_weight"] * auxiliary
            value = jnp.sum(weights * losses) + jnp.sum(auxiliary)
            return value, ({"loss": losses, "auxiliary": auxiliary}, batch_stats)

        def gradient_of(params: Any, examples: Batch) -> tuple[Any, Any]:
            if axis_name is not None:
                # Without this, shard_map's default sums gradients by itself, and they would be summed twice.
                params = jax.tree.map(lambda p: jax.lax.pcast(p, axis_name, to="varying"), params)
            gradient, aux = accumulation.gradient(value_of, params, optimized["batch_stats"], examples, parts)
            # Weights are those of the global batch, so the parts add up.
            return gradient if axis_name is None else jax.lax.psum(gradient, axis_name), aux

        if parts > 1:
            # No loss is known yet, and none is needed.
            examples["weights"] = weights_of(jnp.zeros_like(mask))[0]
        gradient, (each, batch_stats) = gradient_of(optimized["params"], examples)
        losses, auxiliary = each["loss"], global_sum(each["auxiliary"], axis_name)
        weights, objective_state = weights_of(losses)
        value = objective.value(weights, losses, group, mask, state.objective, axis_name)
        norm = optax.tree.norm(gradient)
        if extras.sharpness:
            # With the weights of where we stand.
            peak = ascend(optimized["params"], gradient, extras.sharpness)
            gradient, _ = gradient_of(peak, examples | {"weights": weights})
        step, opt_state = optimizer.update(gradient, state.opt_state, optimized["params"])
        of_groups = group_sums(losses, jax.nn.one_hot(group, groups), mask, axis_name)
        metrics = {
            "loss": value + auxiliary,
            "auxiliary": auxiliary,
            "gradient_norm": norm,
            "loss_sum": global_sum(losses * mask, axis_name),
            "count": global_sum(mask, axis_name),
            "group_loss_sum": of_groups.total,
            "group_count": of_groups.counts,
        }
        new = {"params": optax.apply_updates(optimized["params"], step), "batch_stats": batch_stats}
        average = moving_average(state.variables, new, state.step, extras.ema) if extras.ema else new
        new_state = TrainState(
            seed=state.seed,
            step=state.step + 1,
            **average,
            opt_state=opt_state,
            objective=objective_state,
            iterate=new if extras.ema else (),
        )
        return new_state, metrics

    return train_step


def moving_average(
    average: dict[str, Any], new: dict[str, Any], step: jax.Array, decay: float
) -> dict[str, Any]:
    """Return decay * average + (1 - decay) * new, of parameters and batch statistics (Polyak and Juditsky 1992).

    Up to decay = (1 + step) / (10 + step), the decay of the first steps, so that the initial values are soon forgotten.

    Args:
        average: variables before the step.
        new: variables after the update.
        step: i32[], updates before this one.
        decay: in (0, 1).
    """
    weight = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(new, average, weight)


def distillation(
    logits: jax.Array,
    taught: jax.Array,
    group: jax.Array,
    valid: jax.Array | None = None,
    temperature: float = 1.0,
) -> jax.Array:
    """T^2 KL(p_teacher(a) || p), mean over pixels; the teacher is that of the example's own group (FairDi).

    Both probabilities are the softmax of logits / T, and T^2 keeps the size of the gradient (Hinton, Vinyals and Dean
    2015, arXiv 1503.02531).

    Args:
        logits: f32[B, H, W, C] of the student.
        taught: f32[G, B, H, W, C], the logits of every group's teacher.
        group: i32[B]; -1 has no teacher.
        valid: bool[B, H, W], False in void pixels, of which teachers have learned nothing; None where there are none.
        temperature: T, above 0.

    Returns:
        f32[B]; 0 where the group is unknown.
    """
    own = jax.nn.one_hot(group, taught.shape[0])
    teacher = jax.nn.log_softmax(
        jax.lax.stop_gradient(jnp.einsum("bg,gbhwc->bhwc", own, taught, precision="highest")) / temperature
    )
    divergence = (jnp.exp(teacher) * (teacher - jax.nn.log_softmax(logits / temperature))).sum(-1)
    return temperature**2 * pixel_mean(divergence, valid) * (group >= 0)


def make_eval_step(model: nn.Module, loss: Loss, structures: Structures, *, void: bool = False) -> EvalStep:
    """Scores per case: `eval_step(variables, batch)` -> `dice`, `iou` f32[B, S], pixels i32[B, S], `loss` f32[B].

    Structures are as for `metrics.overlap`. With `void`, pixels with the label `anatomy.VOID` are left out of all
    scores.
    """

    def eval_step(variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        logits = _logits(model, variables, batch)
        label = batch["label"].astype(jnp.int32)
        valid = _valid(label, void)
        counts = overlap(logits.argmax(-1), label, structures, valid)
        return _scored(counts) | {"loss": loss(logits, label, valid)}

    return eval_step


def make_case_step(
    model: nn.Module,
    structures: Structures,
    translation: jax.Array,
    *,
    probabilities: bool = False,
    void: bool = False,
) -> EvalStep:
    """As `make_eval_step`, with label map and calibration, for masks of the network's label scheme or another.

    It gives `prediction` u8[B, H, W], `ece` f32[B, S] and the sums of `metrics.reliability`, `pixels`, `confidence` and
    `accuracy` f32[B, S, bins], which scoring during training does without; and no loss, which needs masks of the
    network's own labels. A pixel is what its likeliest label is called; only for calibration is a probability the sum
    over the network's labels that are called so.

    Args:
        model: the network.
        structures: the structures of the masks' scheme, as for `metrics.overlap`.
        translation: i32[C], what each of the network's labels is called there (`anatomy.translation`).
        probabilities: whether it also gives `probability` f32[B, H, W, C], of the network's own labels.
        void: whether the masks hold `anatomy.VOID`, whose pixels are left out of all scores (not of `prediction`).
    """

    def case_step(variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        logits, label = _logits(model, variables, batch), batch["label"].astype(jnp.int32)
        predicted = jnp.asarray(translation)[logits.argmax(-1)]
        called = structure_masks(jnp.asarray(translation), structures).astype(jnp.float32)
        probability = jax.nn.softmax(logits)
        merged = jnp.einsum("bhwc,cs->bhws", probability, called, precision="highest")
        valid = _valid(label, void)
        sums = reliability(merged, label, valid=valid, structures=structures)
        scores = _scored(overlap(predicted, label, structures, valid)) | sums._asdict()
        scores |= {"probability": probability} if probabilities else {}
        return scores | {"ece": ece(sums), "prediction": predicted.astype(jnp.uint8)}

    return case_step


def _valid(label: jax.Array, void: bool) -> jax.Array | None:
    """Where labels are known, bool[B, H, W]; None where labels hold no void."""
    return label != VOID if void else None


def _scored(counts: Overlap) -> dict[str, jax.Array]:
    return {
        "dice": dice(counts),
        "iou": iou(counts),
        "true_pixels": counts.true,
        "pred_pixels": counts.predicted,
    }


def make_feature_step(model: nn.Module) -> EvalStep:
    """What the network makes of a case at its deepest: `step(variables, batch)` -> `features` f32[B, C].

    Means over the image of the encoder's last features, before any part of `models.heads`.
    """

    def feature_step(variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        image = standardize(batch["image"])
        _, found = model.apply(variables, image, group=batch["group"], mutable=["intermediates"])
        return {"features": found["intermediates"]["deepest"][0].astype(jnp.float32).mean((1, 2))}

    return feature_step


def _logits(model: nn.Module, variables: dict[str, Any], batch: Batch) -> jax.Array:
    """What the network says of a batch as it is, outside of training."""
    return cast(jax.Array, model.apply(variables, standardize(batch["image"]), group=batch["group"]))
