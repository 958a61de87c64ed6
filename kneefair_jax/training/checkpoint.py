"""Checkpoints by orbax: state and validation scores of each evaluation; the only file that knows orbax."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from kneefair_jax.training import selection
from kneefair_jax.training.state import TrainState


class KeepSelected(checkpoint_managers.PreservationPolicy):
    """Orbax's hook for what may be deleted: all but `selection.kept`."""

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: checkpoint_managers.PreservationContext
    ) -> list[bool]:
        """One answer for each checkpoint."""
        del context
        scored = [checkpoint for checkpoint in checkpoints if checkpoint.metrics is not None]
        if len(scored) < len(checkpoints):
            return [True] * len(checkpoints)
        keep = selection.kept([{"step": c.step, **c.metrics} for c in scored])
        return [checkpoint.step in keep for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of one run folder. Writing is asynchronous and atomic; a half-written one is not seen."""

    def __init__(self, directory: Path):
        options = ocp.CheckpointManagerOptions(
            preservation_policy=KeepSelected(),
            best_fn=lambda scores: scores["overall"],  # orbax stores metrics only if it has one
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def save(self, state: TrainState, validation: dict[str, Any], seconds: float) -> None:
        """Saves a state with its validation scores (`overall`, `groups`) and the seconds of training so far."""
        self._manager.save(
            int(state.step),
            metrics=validation,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), clock=ocp.args.JsonSave({"seconds": seconds})
            ),
        )

    def records(self) -> list[selection.Record]:
        """Step and validation scores of every checkpoint there is, the earliest first."""
        self._manager.wait_until_finished()
        scores = {step: self._manager.metrics(step) for step in sorted(self._manager.all_steps())}
        # Deleting is not atomic: whoever is killed at it leaves a checkpoint, which was not wanted, without its scores.
        return [{"step": step, **metrics} for step, metrics in scores.items() if metrics is not None]

    def latest(self) -> int | None:
        """The newest whole checkpoint's step."""
        return self._manager.latest_step()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, float]:
        """The state at a step, laid out over devices as `like` is, and the seconds of training behind it."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), clock=ocp.args.JsonRestore()),
        )
        return restored["state"], restored["clock"]["seconds"]

    def variables(self, step: int, like: TrainState) -> dict[str, Any]:
        """The network's variables at a step.

        Whoever scores a run need not know what its optimiser and its objective carried along.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like.variables)
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(
                    abstract,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
                    partial_restore=True,
                ),
            ),
        )
        return restored["state"]

    def seconds(self, step: int) -> float:
        """The seconds of training behind a step."""
        return self._manager.restore(step, args=ocp.args.Composite(clock=ocp.args.JsonRestore()))["clock"][
            "seconds"
        ]

    def close(self) -> None:
        """Waits for the last write."""
        self._manager.wait_until_finished()
        self._manager.close()
