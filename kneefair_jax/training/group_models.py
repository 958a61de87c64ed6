"""The models that a run consists of: one for everybody, or one a group; and what they say together of every case."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from kneefair_jax.data.store.cache import Arrays
from kneefair_jax.errors import InputError
from kneefair_jax.groups import Partition
from kneefair_jax.training import scoring, selection
from kneefair_jax.training.checkpoint import Checkpoints
from kneefair_jax.training.state import TrainState

STAGES = "stages"  # the folder, within the run's, of all but the last stage of a schedule


class Member(NamedTuple):
    """One of the models that together segment everybody.

    Attributes:
        directory: its folder, within the run's.
        group: the group that it segments; None for everybody.
        name: that group's name.
    """

    directory: str = ""
    group: int | None = None
    name: str = ""


def by_group(partition: Partition) -> list[Member]:
    """A model for each group."""
    return [Member(f"{STAGES}/group_{g}", g, name) for g, name in enumerate(partition.names)]


def of_run(config: ConfigDict, partition: Partition) -> list[Member]:
    """The models of a finished run."""
    return by_group(partition) if config.mitigation.schedule.name == "group_specific" else [Member()]


def records(workdir: Path, members: Sequence[Member]) -> list[list[selection.Record]]:
    """Step and validation scores of each member's checkpoints.

    Raises:
        InputError: a member has none.
    """
    found = []
    for member in members:
        checkpoints = Checkpoints(workdir / member.directory / "checkpoints")
        found.append(checkpoints.records())
        checkpoints.close()
        if not found[-1]:
            raise InputError(
                f"{workdir / member.directory} holds no checkpoint; train first with --mode=train"
            )
    return found


def restore(
    workdir: Path, members: Sequence[Member], steps: Sequence[int], like: TrainState
) -> list[dict[str, Any]]:
    """The members' variables at the given steps, laid out over devices as those of `like` are."""
    variables = []
    for member, step in zip(members, steps, strict=True):
        checkpoints = Checkpoints(workdir / member.directory / "checkpoints")
        variables.append(checkpoints.variables(step, like))
        checkpoints.close()
    return variables


def effort(workdir: Path) -> tuple[int, float]:
    """Steps and seconds of training of all models and stages of a run, whichever checkpoints were selected."""
    steps, seconds = 0, 0.0
    for folder in (workdir / "checkpoints", *sorted((workdir / STAGES).glob("*/checkpoints"))):
        if folder.is_dir():
            checkpoints = Checkpoints(folder)
            last = checkpoints.latest() or 0
            steps, seconds = steps + last, seconds + (checkpoints.seconds(last) if last else 0.0)
            checkpoints.close()
    return steps, seconds


def over_cases(
    step: Callable[..., Any],
    members: Sequence[Member],
    variables: Sequence[dict[str, Any]],
    cases: Arrays,
    rows: np.ndarray,
    *,
    group: np.ndarray,
    batch_size: int,
    mesh: jax.sharding.Mesh,
    then: Callable[[Any, np.ndarray], Any] | None = None,
) -> Any:
    """As `scoring.over_cases`, each row by the member of its group.

    Args:
        step: `(variables, batch) -> tree`.
        members: of the run.
        variables: theirs.
        cases: the prepared cases.
        rows: of `cases`.
        group: i32[cases], the group of each; where there is a member a group, each of `rows` has a known one.
        batch_size: of the global batch.
        mesh: the devices.
        then: what to keep of each batch.
    """
    run: dict[str, Any] = {"group": group, "batch_size": batch_size, "mesh": mesh, "then": then}
    parts, places = [], []
    for member, its_own in zip(members, variables, strict=True):
        place = np.flatnonzero((group[rows] == member.group) | (member.group is None))
        if len(place):
            places.append(place)
            parts.append(scoring.over_cases(step, its_own, cases, rows[place], **run))
    order = np.argsort(np.concatenate(places))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays)[order], *parts)
