"""What `--checkpoint` names -> networks: one for everybody, or one a group."""

from pathlib import Path

from kneefair_jax.errors import InputError
from kneefair_jax.weights.network import NAMES, SUFFIX, Network, load

EXPORTED = "export"  # the folder of a run that `kneefair_jax.export` fills

Checkpoint = dict[str | None, Network]  # group -> its network; None for everybody


def find(name: str | Path) -> Checkpoint:
    """The networks of a name that ships, of a `.safetensors` file, or of a run's folder.

    Raises:
        InputError: there are none, or the run is not exported.
    """
    folder = Path(name)
    if str(name) in NAMES or not folder.is_dir():
        network = load(name)
        return {network.about.get("group"): network}
    paths = sorted((folder / EXPORTED).glob(f"*{SUFFIX}")) or sorted(folder.glob(f"*{SUFFIX}"))
    if not paths:
        raise InputError(
            f"{folder}: no exported weights; make them with python -m kneefair_jax.export {folder}"
        )
    networks = [load(path) for path in paths]
    found = {network.about.get("group"): network for network in networks}
    if len(found) < len(networks):
        raise InputError(
            f"{paths[0].parent}: {len(networks)} networks for the same cases; name one of the files"
        )
    return found


def of_group(checkpoint: Checkpoint, group: str | None) -> Network:
    """The network that segments a group's cases.

    Raises:
        InputError: each group has its own, and which is meant is not said or not there.
    """
    if None in checkpoint:
        return checkpoint[None]
    if group in checkpoint:
        return checkpoint[group]
    names = ", ".join(repr(name) for name in checkpoint)
    given = "no group is given" if group is None else f"group {group!r}"
    raise InputError(f"{given}: these networks are each for one group; give one of {names} as group")
