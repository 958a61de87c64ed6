"""Data parallelism: one mesh axis over every device, state replicated, batches split."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kneefair_jax.errors import InputError

AXIS = "data"


def data_mesh() -> Mesh:
    """All devices of all hosts on one axis called `data`."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def global_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's share of a batch -> global arrays, split over all devices of all hosts."""
    return jax.make_array_from_process_local_data(split(mesh), batch)


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Refuses a batch that the devices cannot share out evenly.

    Raises:
        InputError: with the batch sizes nearest to it that would do.
    """
    devices = mesh.devices.size
    if batch_size < 1 or batch_size % devices:
        below, above = batch_size // devices * devices, (batch_size // devices + 1) * devices
        fits = " or ".join(str(size) for size in (below, above) if size > 0)
        raise InputError(f"train.batch_size={batch_size} cannot be shared by {devices} devices; use {fits}")
