"""The pure functions of a run: train, score, and score with label maps. All static choices are closed over once."""

from collections.abc import Callable
from typing import Any, cast

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from kneefair_jax.data.augment import Augmentation, augment
from kneefair_jax.losses import Loss
from kneefair_jax.metrics import Overlap, dice, iou, overlap
from kneefair_jax.mitigation import GroupObjective
from kneefair_jax.mitigation.objective import global_sum
from kneefair_jax.models import standardise
from kneefair_jax.training.state import TrainState

Batch = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]
EvalStep = Callable[[dict[str, Any], Batch], dict[str, jax.Array]]


def make_train_step(
    model: nn.Module,
    loss: Loss,
    objective: GroupObjective,
    optimizer: optax.GradientTransformation,
    *,
    augmentation: Augmentation,
    flip_table: jax.Array,
    groups: int,
    seed: int,
    axis_name: str | None = None,
) -> TrainStep:
    """One update: augment, forward, per-example losses, group weights, backward, optimiser.

    Args:
        model: the network; its batch statistics pool over the same `axis_name`.
        loss: per example.
        objective: turns losses into weights of the global batch.
        optimizer: of the parameters.
        augmentation: strength of the random variation.
        flip_table: labels after a left/right flip.
        groups: G.
        seed: with the step, it fixes every random draw.
        axis_name: set inside `jax.pmap` or `jax.shard_map`; None under plain `jax.jit`, where the batch is global.

    Returns:
        `train_step(state, batch) -> (state, metrics)`. Metrics are `loss` (the objective's value), `gradient_norm`,
        and sums with their counts: `loss_sum`, `count`, `group_loss_sum` f32[G], `group_count` f32[G] of the *raw*
        losses, so that averages over steps and devices are exact.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
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
        mask = batch["mask"]

        def objective_value(params: Any) -> tuple[jax.Array, Any]:
            logits, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                standardise(image),
                train=True,
                mutable=["batch_stats"],
            )
            losses = loss(logits, label)
            chex.assert_equal_shape([losses, mask])  # (B,) against (B, 1) would broadcast to (B, B)
            weights, objective_state = objective.update(
                jax.lax.stop_gradient(losses), batch["group"], mask, state.objective, axis_name
            )
            weights = jax.lax.stop_gradient(weights * batch["weight"])
            return jnp.sum(weights * losses), (losses, objective_state, updates)

        params = state.params
        if axis_name is not None:
            # Without this, shard_map's default sums gradients by itself, and they would be summed twice.
            params = jax.tree.map(lambda p: jax.lax.pcast(p, axis_name, to="varying"), params)
        (value, (losses, objective_state, updates)), gradient = jax.value_and_grad(
            objective_value, has_aux=True
        )(params)
        if axis_name is not None:
            # Weights are those of the global batch, so the parts add up.
            value, gradient = jax.lax.psum((value, gradient), axis_name)
        step, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        member = jax.nn.one_hot(batch["group"], groups) * mask[:, None]
        metrics = {
            "loss": value,
            "gradient_norm": optax.tree.norm(gradient),
            "loss_sum": global_sum(losses * mask, axis_name),
            "count": global_sum(mask, axis_name),
            "group_loss_sum": global_sum(member * losses[:, None], axis_name),
            "group_count": global_sum(member, axis_name),
        }
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, step),
            batch_stats=updates.get("batch_stats", {}),
            opt_state=opt_state,
            objective=objective_state,
        )
        return new_state, metrics

    return train_step


def make_eval_step(model: nn.Module, loss: Loss, structures: int) -> EvalStep:
    """Scores per case: `eval_step(variables, batch)` -> `dice`, `iou` f32[B, S], pixels i32[B, S], `loss` f32[B]."""

    def eval_step(variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        logits = _logits(model, variables, batch)
        label = batch["label"].astype(jnp.int32)
        return _scored(overlap(logits.argmax(-1), label, structures)) | {"loss": loss(logits, label)}

    return eval_step


def make_case_step(model: nn.Module, structures: int, translation: jax.Array) -> EvalStep:
    """As `make_eval_step`, with the label map, for masks of the network's label scheme or another.

    It gives `prediction` u8[B, H, W], which costs a transfer that scoring during training does without; and no loss,
    which needs masks of the network's own labels.

    Args:
        model: the network.
        structures: S of the masks' scheme.
        translation: i32[C], what each of the network's labels is called there (`anatomy.translation`).
    """

    def case_step(variables: dict[str, Any], batch: Batch) -> dict[str, jax.Array]:
        predicted = jnp.asarray(translation)[_logits(model, variables, batch).argmax(-1)]
        scores = _scored(overlap(predicted, batch["label"].astype(jnp.int32), structures))
        return scores | {"prediction": predicted.astype(jnp.uint8)}

    return case_step


def _scored(counts: Overlap) -> dict[str, jax.Array]:
    return {
        "dice": dice(counts),
        "iou": iou(counts),
        "true_pixels": counts.true,
        "pred_pixels": counts.predicted,
    }


def _logits(model: nn.Module, variables: dict[str, Any], batch: Batch) -> jax.Array:
    """What the network says of a batch as it is, outside of training."""
    return cast(jax.Array, model.apply(variables, standardise(batch["image"])))
