"""What the networks of an ensemble share: structures, working grid, fit and groups."""

from collections.abc import Sequence

from kneefair_jax import weights
from kneefair_jax.errors import InputError
from kneefair_jax.weights import FITS


def shared_classes_and_grid(
    ensemble: Sequence[weights.NetworksByGroup],
) -> tuple[tuple[str, ...], tuple[int, int, int]]:
    """Return the structures and the working grid of all networks.

    Raises:
        InputError: the networks differ in one of them.
    """
    abouts = [network.about for checkpoint in ensemble for network in checkpoint.values()]
    pairs = [(tuple(about["structures"]), tuple(about["grid"])) for about in abouts]
    if len(set(pairs)) > 1:
        raise InputError("these networks differ in structures or working grid; an ensemble shares both")
    return pairs[0]


def fit(ensemble: Sequence[weights.NetworksByGroup], fit: str) -> str:
    """Return how images are placed on the grid: as stated, or else as the networks' descriptions say.

    Raises:
        InputError: there is no such fit, or the networks differ and none is stated.
    """
    fits = {network.about.get("fit", FITS[0]) for checkpoint in ensemble for network in checkpoint.values()}
    if not fit and len(fits) > 1:
        raise InputError(f"these networks differ in --fit ({', '.join(sorted(fits))}); give one")
    if fit not in ("", *FITS):
        raise InputError(f"fit={fit!r}: give one of {', '.join(FITS)}")
    return fit or str(fits.pop())


def shared_groups(ensemble: Sequence[weights.NetworksByGroup]) -> tuple[str, ...]:
    """Return the groups for which every group-specific checkpoint has a network, in the order of the first one."""
    names = [[group for group in checkpoint if group] for checkpoint in ensemble if None not in checkpoint]
    return tuple(group for group in (names[0] if names else ()) if all(group in more for more in names))
