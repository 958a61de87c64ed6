"""Cohorts whose cases are prepared: what cannot be read is left out before the splits are dealt."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from kneefair_jax.data import load, store
from kneefair_jax.data.left_out import LeftOut
from kneefair_jax.data.load import Cohort
from kneefair_jax.data.store import Cases


class Prepared(NamedTuple):
    """A cohort and its arrays.

    Attributes:
        cohort: the cases that can be read, in splits.
        cases: their arrays; row k is row k of `cohort.cases`.
        left_out: what the source, or its files, kept out of the cohort.
    """

    cohort: Cohort
    cases: Cases
    left_out: tuple[LeftOut, ...]


def prepare(
    data: ConfigDict,
    seed: int,
    cohort: Cohort,
    external: Cohort | None,
    directory: Path,
    *,
    say: Callable[[str], None],
) -> tuple[Prepared, Prepared | None]:
    """Prepares a cohort, and an external one, as loaded; loads them again without what cannot be read.

    Args:
        data: the config's `data` section.
        seed: as given to `load.load`.
        cohort: from `load.load`.
        external: from `load.load_external`.
        directory: of the prepared stores.
        say: gets lines of progress.

    Raises:
        InputError: as `store.prepare_all`; or the cohort cannot do without the cases that are left out.
    """
    # The external one first: it is seldom the larger, and a broken file in it refuses both.
    parts = [part for part in (external, cohort) if part]
    *others, cases = store.prepare_all(
        [(part.source, part.grid) for part in parts],
        directory,
        store.Options(workers=data.workers, on_broken=data.on_broken, beam=data.beam, say=say),
    )
    if cases.left_out:
        cohort = load.load(data, seed, without=dict(cases.left_out))
    main = Prepared(cohort, cases, cohort.source.left_out + cases.left_out)
    if external is None:
        return main, None
    if others[0].left_out:
        external = load.load_external(data, cohort, without=dict(others[0].left_out))
        assert external is not None
    return main, Prepared(external, others[0], external.source.left_out + others[0].left_out)
