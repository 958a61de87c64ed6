"""Checkpoints by orbax: state and validation scores of each evaluation; the only file that knows orbax.

Orbax restores an array with a flipped bit without an error. So a checkpoint gets the SHA-256 of its files before it
gets its final name. `sha256sum -c SHA256SUMS` in its folder verifies them too.

A rule selects the run's checkpoint by the records of validation. A record is
`{"step": int, "overall": float, "groups": {name: float}}`: mean validation macro Dice over patients. Ties go to the
earlier step. Every rule is reported beside the one that the config selects, because the rule can change the winner
(MEDFAIR, Zong et al., ICLR 2023).
"""

import asyncio
import contextlib
import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers
from orbax.checkpoint.path import atomicity

from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import atomic, distributed
from kneefair_jax.runtime.schema import Anything, Number, Table, find_fault
from kneefair_jax.training.state import TrainState

Record = dict[str, Any]
Rule = Callable[[Sequence[Record]], Record]

RECENT = 2  # newest checkpoints that stay whatever their scores: the newest may turn out to be damaged

logger = logging.getLogger(__name__)

Pending = list[dict[str, Any]]  # metrics of steps that no line of `metrics.jsonl` covers yet
SUMS = "SHA256SUMS"
_SCORE = Number(-10, 10)
_SCORES = Table({"overall": _SCORE, "groups": Table(other_fields=_SCORE)}, Anything())


def seal(directory: Path) -> None:
    """Write `SHA256SUMS` of every file in subfolders of a folder; orbax still changes the files directly in it."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.parent != directory)
    with atomic.replacement(directory / SUMS, sync=True) as temporary, temporary.open("w") as file:
        file.writelines(f"{_sha256(path)}  {path.relative_to(directory)}\n" for path in paths)
        file.write(f"# {len(paths)} files\n")  # reveals a missing line


def find_damage(directory: Path, part: str = "") -> str | None:
    """Return the first damaged file of a checkpoint and its fault.

    Args:
        directory: the checkpoint.
        part: check this folder of it alone, where a missing file is no damage: a process that is killed while it
            deletes an unneeded checkpoint leaves some of its files.

    Returns:
        The fault, or None; also None without sums, as in checkpoints of earlier versions.
    """
    if not (directory / SUMS).exists():
        return None
    *lines, end = (directory / SUMS).read_text(errors="replace").splitlines() or [""]
    if end != f"# {len(lines)} files":
        return f"{directory / SUMS} has changed since it was written"
    for line in lines:
        sha256, _, name = line.partition("  ")
        if not name.startswith(part):
            continue
        path = directory / name
        if not path.is_file():
            if not part:
                return f"{path} is missing"
        elif _sha256(path) != sha256:
            return f"{path} has changed since it was written"
    return None


def set_aside(directory: Path) -> Path:
    """Rename a damaged checkpoint, so that training can repeat its step, and return its new path."""
    number = 0
    while (target := directory.with_name(f"damaged_{directory.name}_{number}")).exists():
        number += 1
    return directory.rename(target)


class Sealed(atomicity.AtomicRenameTemporaryPath):
    """Orbax's hook for the final name of a checkpoint, which adds the sums of its files."""

    async def finalize(self) -> None:
        """Seal the checkpoint and give it its final name, on the first host, after every host has written."""
        await asyncio.to_thread(seal, Path(self.get()))
        await super().finalize()
        # Orbax writes its folder's absolute path into a file that only counts by its existence.
        await asyncio.to_thread(
            atomic.write_text, Path(self.get_final()) / atomicity.COMMIT_SUCCESS_FILE, "committed\n"
        )


class KeepSelected(checkpoint_managers.PreservationPolicy):
    """Orbax's hook for the checkpoints to keep: `preserved_steps`, and the newest, scored or not."""

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: checkpoint_managers.PreservationContext
    ) -> list[bool]:
        """Return a decision for each checkpoint."""
        del context
        steps = {checkpoint.step for checkpoint in checkpoints[-RECENT:]}
        if scored := [{"step": c.step, **c.metrics} for c in checkpoints if c.metrics is not None]:
            steps |= preserved_steps(scored)
        return [checkpoint.step in steps for checkpoint in checkpoints]


class Checkpoints:
    """The checkpoints of one run folder. Writing is asynchronous and atomic; readers see no partial checkpoint.

    Raises:
        InputError: the scores of a checkpoint are damaged.
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
        with self._report_damage("the checkpoints of this folder"):
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error closing could wait for a host that has exited; errors on all hosts wait before they are raised.
        if jax.process_count() == 1 or kind is None or not issubclass(kind, Exception):
            self.close()

    def save(
        self,
        state: TrainState,
        validation: dict[str, Any] | None,
        seconds: float,
        pending: Sequence[dict[str, Any]] = (),
    ) -> None:
        """Save a state.

        Args:
            state: on the devices.
            validation: its scores, `overall` and `groups`; None without an evaluation: then no rule selects the state.
            seconds: training time so far.
            pending: metrics on the host that no line of `metrics.jsonl` covers yet.
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

    def records(self) -> list[Record]:
        """Return step and validation scores of every scored checkpoint, the earliest first."""
        self._manager.wait_until_finished()
        scores = {}
        for step in sorted(self._manager.all_steps()):
            with self._report_damage(f"the checkpoint of step {step}"):
                scores[step] = self._manager.metrics(step)
                if scores[step] is not None and (fault := find_fault(scores[step], _SCORES)):
                    raise ValueError(f"its score {fault.place} is not {fault.expected}")
        # Deletion is not atomic: a process that is killed at it leaves an unneeded checkpoint without its scores.
        return [{"step": step, **metrics} for step, metrics in scores.items() if metrics is not None]

    def latest(self) -> int | None:
        """Return the step of the newest complete checkpoint."""
        return cast(int | None, self._manager.latest_step())

    def committed(self) -> int | None:
        """Return `latest` after pending writes are complete; every host calls it."""
        self._manager.wait_until_finished()
        return self.latest()

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, float, Pending]:
        """Return the state at a step with the device layout of `like`, its training seconds and its pending metrics.

        Raises:
            InputError: the checkpoint is damaged.
        """
        self._check(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), clock=ocp.args.JsonRestore())
        with self._report_damage(f"the checkpoint of step {step}"):
            restored = self._manager.restore(step, args=args)
            clock = restored["clock"]
            pending = [_arrays(entry) for entry in clock["pending"]]
            return restored["state"], float(clock["seconds"]), pending

    def variables(self, step: int, like: TrainState) -> dict[str, Any]:
        """Return the network's variables at a step, without the states of optimizer and objective.

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
        with self._report_damage(f"the checkpoint of step {step}"):
            restored = self._manager.restore(step, args=ocp.args.Composite(state=state))
            return cast(dict[str, Any], restored["state"])

    def seconds(self, step: int) -> float:
        """Return the training seconds of a step."""
        self._check(step, "clock/")
        args = ocp.args.Composite(clock=ocp.args.JsonRestore())
        with self._report_damage(f"the checkpoint of step {step}"):
            return float(self._manager.restore(step, args=args)["clock"]["seconds"])

    def close(self) -> None:
        """Wait for the last write and close."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _check(self, step: int, part: str = "") -> None:
        if not (self._directory / str(step)).is_dir():
            raise InputError(
                f"{self._directory} has no checkpoint of step {step}; train first with --mode=train"
            )
        if fault := find_damage(self._directory / str(step), part):
            raise InputError(f"{fault}: the checkpoint of step {step} is damaged. {self._remedy(step)}")

    def _remedy(self, step: int | str) -> str:
        return (
            f"Put a copy of it back, or move the folders of step {step} and later out of {self._directory}: "
            "--mode=train then repeats these steps, with the same result"
        )

    @contextlib.contextmanager
    def _report_damage(self, subject: str) -> Iterator[None]:
        """Turn orbax's error at a damaged file, of any type, into one line.

        Checkpoints of earlier versions and of other programs have no sums that would reveal the damage. Errors of the
        disk, of memory and of other hosts have their own lines.
        """
        try:
            yield
        except Exception as error:
            # A missing file is damage, not a fault of the disk.
            of_disk = not isinstance(error, FileNotFoundError) and atomic.describe_storage_error(
                error, "--workdir"
            )
            has_message = isinstance(error, InputError | MemoryError) or of_disk
            if has_message or jax.process_count() > 1 or "RESOURCE_EXHAUSTED" in str(error):
                raise
            raise InputError(
                f"{self._directory}: {subject} cannot be read ({describe(error)}). {self._remedy('that step')}"
            ) from error


def set_damaged_aside(directory: Path) -> None:
    """Rename the newest checkpoints that are damaged and log it, before training resumes."""
    if distributed.is_primary():
        for step in reversed(_steps(directory)):
            fault = find_damage(directory / str(step))
            if not fault:
                break
            path = set_aside(directory / str(step))
            previous = max(_steps(directory), default=None)
            logger.warning(
                "%s: the checkpoint of step %d is damaged and now called %s; training %s",
                fault,
                step,
                path.name,
                "starts again" if previous is None else f"resumes from the previous one, step {previous}",
            )
    distributed.barrier(f"damaged checkpoints are set aside in {directory}")


def _steps(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return arrays as JSON values; a float32 has enough digits to be restored bit for bit."""
    return {name: [str(np.asarray(x).dtype), np.asarray(x).tolist()] for name, x in entry.items()}


def _arrays(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.array(values, dtype)[()] for name, (dtype, values) in entry.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def overall(records: Sequence[Record]) -> Record:
    """Return the record with the best mean over all validation patients."""
    return max(records, key=lambda record: (record["overall"], -record["step"]))


def worst_group(records: Sequence[Record]) -> Record:
    """Return the record with the best mean of its worst group."""
    return max(records, key=lambda record: (worst(record), -record["step"]))


def utopia(records: Sequence[Record]) -> Record:
    """Return the record nearest to U, where U_g is the best mean of group g over all records.

    Reference: MEDFAIR, Zong et al., ICLR 2023.
    """
    # A group whose masks are all empty has a score only where something was predicted.
    names = set.intersection(*(set(record["groups"]) for record in records))
    best = {name: max(record["groups"][name] for record in records) for name in names}

    def distance(record: Record) -> float:
        return math.dist([record["groups"][name] for name in names], [best[name] for name in names])

    return min(records, key=lambda record: (distance(record), -record["overall"], record["step"]))


SELECTION_RULES: dict[str, Rule] = {"overall": overall, "worst_group": worst_group, "utopia": utopia}


def preserved_steps(records: Sequence[Record], recent: int = RECENT) -> set[int]:
    """Return the steps to keep on disk: the newest, each rule's selection, and all that no other step dominates.

    With these, every rule selects, now and later, the record that it would select from all records.
    """
    steps = set(sorted(record["step"] for record in records)[-recent:])
    steps |= {rule(records)["step"] for rule in SELECTION_RULES.values()}
    steps |= {r["step"] for r in records if not any(_dominates(other, r) for other in records)}
    return steps


def worst(record: Record) -> float:
    """Return the mean of the worst group; the overall mean without groups."""
    return float(min(record["groups"].values(), default=record["overall"]))


def _dominates(a: Record, b: Record) -> bool:
    """Return whether a is better than b in every group that both have."""
    names = a["groups"].keys() & b["groups"].keys()
    return bool(names) and all(a["groups"][name] > b["groups"][name] for name in names)
