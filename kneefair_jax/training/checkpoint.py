"""Checkpoints by orbax: state and validation scores of each evaluation; the only file that knows orbax.

Orbax restores a flipped bit in the data of an array without a word. So the SHA-256 of every file is written into a
checkpoint before it gets its final name: a checkpoint that has this name has them, and `sha256sum -c SHA256SUMS` in it
checks it too.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers
from orbax.checkpoint.path import atomicity

from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import atomic, distributed, io_errors
from kneefair_jax.runtime.schema import Anything, Number, Table, find_fault
from kneefair_jax.training import selection
from kneefair_jax.training.state import TrainState

Pending = list[dict[str, Any]]  # what steps said that no line of `metrics.jsonl` holds yet
SUMS = "SHA256SUMS"
_SCORE = Number(-10, 10)
_SCORES = Table({"overall": _SCORE, "groups": Table(other_fields=_SCORE)}, Anything())


def seal(directory: Path) -> None:
    """Writes `SHA256SUMS` of every file in the folders of a folder; what lies in it directly, orbax still changes."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.parent != directory)
    with atomic.replacement(directory / SUMS, sync=True) as temporary, temporary.open("w") as file:
        file.writelines(f"{_sha256(path)}  {path.relative_to(directory)}\n" for path in paths)
        file.write(f"# {len(paths)} files\n")  # so that a sum that is missing is missed


def find_damage(directory: Path, part: str = "") -> str | None:
    """Which file is not what was written.

    Args:
        directory: a checkpoint.
        part: look at this folder in it alone; what is absent of it is no damage: whoever is killed at deleting a
            checkpoint that was not wanted leaves some of its files.

    Returns:
        What is wrong with the first such file; None where nothing is, or where there are no sums, as in checkpoints of
        earlier versions.
    """
    if not (directory / SUMS).exists():
        return None
    *lines, end = (directory / SUMS).read_text(errors="replace").splitlines() or [""]
    if end != f"# {len(lines)} files":
        return f"{directory / SUMS} is not what was written"
    for line in lines:
        sha256, _, name = line.partition("  ")
        if not name.startswith(part):
            continue
        path = directory / name
        if not path.is_file():
            if not part:
                return f"{path} is missing"
        elif _sha256(path) != sha256:
            return f"{path} is not what was written"
    return None


def set_aside(directory: Path) -> Path:
    """Renames a damaged checkpoint, so that its step can be made again; returns where it is."""
    number = 0
    while (aside := directory.with_name(f"damaged_{directory.name}_{number}")).exists():
        number += 1
    return directory.rename(aside)


class Sealed(atomicity.AtomicRenameTemporaryPath):
    """Orbax's hook for how a checkpoint gets its final name: with the sums of its files in it."""

    async def finalize(self) -> None:
        """Called by the first host when every host has written."""
        await asyncio.to_thread(seal, Path(self.get()))
        await super().finalize()
        # Orbax writes its folder's absolute path into a file of which only the name is ever looked at.
        await asyncio.to_thread(
            atomic.write_text, Path(self.get_final()) / atomicity.COMMIT_SUCCESS_FILE, "committed\n"
        )


class KeepSelected(checkpoint_managers.PreservationPolicy):
    """Orbax's hook for what may be deleted: all but `selection.kept`, and the last two, scored or not."""

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: checkpoint_managers.PreservationContext
    ) -> list[bool]:
        """One answer for each checkpoint."""
        del context
        keep = {checkpoint.step for checkpoint in checkpoints[-selection.LAST :]}
        if scored := [{"step": c.step, **c.metrics} for c in checkpoints if c.metrics is not None]:
            keep |= selection.kept(scored)
        return [checkpoint.step in keep for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of one run folder. Writing is asynchronous and atomic; a half-written one is not seen.

    Raises:
        InputError: the scores of one are not those that were written.
    """

    def __init__(self, directory: Path):
        self._directory = directory.absolute()
        for step in _steps(self._directory):
            self._check(step, "metrics/")
        options = ocp.CheckpointManagerOptions(
            preservation_policy=KeepSelected(),
            best_fn=lambda scores: scores["overall"],  # orbax stores metrics only if it has one
            enable_async_checkpointing=True,
            cleanup_tmp_directories=True,
            temporary_path_class=Sealed,
        )
        with self._naming_damage("the checkpoints of this folder"):
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error another host may be gone, for whom closing would wait; who raises on all of them waits before.
        if jax.process_count() == 1 or kind is None or not issubclass(kind, Exception):
            self.close()

    def save(
        self,
        state: TrainState,
        validation: dict[str, Any] | None,
        seconds: float,
        pending: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Saves a state.

        Args:
            state: to save.
            validation: its scores, `overall` and `groups`; None if it was not evaluated: no rule selects it then.
            seconds: of training so far.
            pending: see there, on the host.
        """
        self._manager.save(
            int(state.step),
            metrics=validation,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                clock=ocp.args.JsonSave(
                    {"seconds": seconds, "pending": [_plain(entry) for entry in pending]}
                ),
            ),
        )

    def records(self) -> list[selection.Record]:
        """Step and validation scores of every checkpoint that has scores, the earliest first."""
        self._manager.wait_until_finished()
        scores = {}
        for step in sorted(self._manager.all_steps()):
            with self._naming_damage(f"the checkpoint of step {step}"):
                scores[step] = self._manager.metrics(step)
                if scores[step] is not None and (fault := find_fault(scores[step], _SCORES)):
                    raise ValueError(f"its score {fault.place} is not {fault.expected}")
        # Deleting is not atomic: whoever is killed at it leaves a checkpoint, which was not wanted, without its scores.
        return [{"step": step, **metrics} for step, metrics in scores.items() if metrics is not None]

    def latest(self) -> int | None:
        """The newest whole checkpoint's step."""
        return self._manager.latest_step()

    def committed(self) -> int | None:
        """The same, when what is being written is whole: every host calls it."""
        self._manager.wait_until_finished()
        return self.latest()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, float, Pending]:
        """The state at a step, laid out over devices as `like` is, the seconds of training behind it, what is pending.

        Raises:
            InputError: the checkpoint is damaged.
        """
        self._check(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), clock=ocp.args.JsonRestore())
        with self._naming_damage(f"the checkpoint of step {step}"):
            restored = self._manager.restore(step, args=args)
            clock = restored["clock"]
            pending = [_arrays(entry) for entry in clock.get("pending", ())]
            return restored["state"], float(clock["seconds"]), pending

    def variables(self, step: int, like: TrainState) -> dict[str, Any]:
        """The network's variables at a step.

        Whoever scores a run need not know what its optimiser and its objective carried along.

        Raises:
            InputError: the checkpoint is damaged.
        """
        self._check(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like.variables)
        state = ocp.args.PyTreeRestore(
            abstract,
            restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
            partial_restore=True,
        )
        with self._naming_damage(f"the checkpoint of step {step}"):
            return self._manager.restore(step, args=ocp.args.Composite(state=state))["state"]

    def seconds(self, step: int) -> float:
        """The seconds of training behind a step."""
        self._check(step, "clock/")
        args = ocp.args.Composite(clock=ocp.args.JsonRestore())
        with self._naming_damage(f"the checkpoint of step {step}"):
            return float(self._manager.restore(step, args=args)["clock"]["seconds"])

    def close(self) -> None:
        """Waits for the last write."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _check(self, step: int, part: str = "") -> None:
        if not (self._directory / str(step)).is_dir():
            raise InputError(
                f"{self._directory} holds no checkpoint of step {step}; train first with --mode=train"
            )
        if what := find_damage(self._directory / str(step), part):
            raise InputError(f"{what}: the checkpoint of step {step} is damaged. {self._remedy(step)}")

    def _remedy(self, step: int | str) -> str:
        return (
            f"Put a copy of it back, or move the folders of step {step} and later out of {self._directory}: "
            "--mode=train then makes these steps again, to the same result"
        )

    @contextlib.contextmanager
    def _naming_damage(self, what: str) -> Iterator[None]:
        """Turn what orbax raises at a damaged file, of any type, into one line.

        Checkpoints of earlier versions, and of somebody else, have no sums that would show the damage. Errors of the
        disk, of memory and of other hosts have lines of their own.
        """
        try:
            yield
        except Exception as error:
            # A file that is missing is damage, not a fault of the disk.
            of_disk = not isinstance(error, FileNotFoundError) and io_errors.describe(error, "--workdir")
            own = isinstance(error, InputError | MemoryError) or of_disk
            if own or jax.process_count() > 1 or "RESOURCE_EXHAUSTED" in str(error):
                raise
            raise InputError(
                f"{self._directory}: {what} cannot be read ({describe(error)}). {self._remedy('that step')}"
            ) from error


def set_damaged_aside(directory: Path) -> None:
    """Before training goes on: says which of the newest checkpoints are damaged, and renames them."""
    if distributed.is_primary():
        for step in reversed(_steps(directory)):
            what = find_damage(directory / str(step))
            if not what:
                break
            aside = set_aside(directory / str(step))
            before = max(_steps(directory), default=None)
            print(
                f"{what}: the checkpoint of step {step} is damaged and now called {aside.name}; training "
                + ("starts again" if before is None else f"goes on from the one before, step {before}"),
                flush=True,
            )
    distributed.barrier(f"damaged checkpoints are set aside in {directory}")


def _steps(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays as JSON takes them; a float32 is written with enough digits to come back bit for bit."""
    return {name: [str(np.asarray(x).dtype), np.asarray(x).tolist()] for name, x in entry.items()}


def _arrays(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.array(values, dtype)[()] for name, (dtype, values) in entry.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
