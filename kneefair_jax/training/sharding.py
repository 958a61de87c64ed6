"""Data parallelism: one mesh axis over every device, state replicated, batches split.

`jit` lets XLA divide the step over the devices, from how its arguments are laid out, which is what JAX recommends;
`pmap` runs it once on each device, with collectives over the axis `data`. Both give a single device's result.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kneefair_jax.errors import InputError

AXIS = "data"

Batch = dict[str, np.ndarray]


class Parallel(NamedTuple):
    """A way of running one step on all devices.

    Attributes:
        axis: the axis name of collectives in the step; None where the step sees the global batch.
        compile: `step(state, batch, teachers)` -> the same, compiled at its first call; it donates the state.
        place: this host's share of a batch, and the mesh -> the batch as the compiled step takes it.
        globalize: the compiled step's result -> arrays on the devices of all hosts.
    """

    axis: str | None
    compile: Callable[[Callable[..., Any]], jax.stages.Wrapped]
    place: Callable[[Batch, Mesh], dict[str, Any]]
    globalize: Callable[[Any], Any]


def data_mesh() -> Mesh:
    """Return all devices of all hosts on one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding with the same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding with the first axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def global_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """Return global arrays, split over all devices of all hosts, of this host's share of a batch."""
    arrays: dict[str, jax.Array] = jax.make_array_from_process_local_data(split(mesh), batch)
    return arrays


def local_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """Return this host's share of a batch [B, ...] as [devices of this host, B / devices, ...], for `jax.pmap`."""
    del mesh
    devices = jax.local_devices()  # in the order of pmap, which may not be a mesh's
    by_device = {name: array.reshape(len(devices), -1, *array.shape[1:]) for name, array in batch.items()}
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))
    return {name: jax.device_put(array, sharding) for name, array in by_device.items()}


def globalize(tree: Any) -> Any:
    """Return global arrays of a result of pmap, whose arrays are on this host's devices; all hosts have the same."""
    if jax.process_count() == 1:
        return tree
    everywhere = replicated(data_mesh())

    def global_array(x: jax.Array) -> jax.Array:
        shards = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, everywhere, shards)

    return jax.tree.map(global_array, tree)


PARALLEL = {
    "jit": Parallel(None, lambda step: jax.jit(step, donate_argnums=0), global_batch, lambda tree: tree),
    "pmap": Parallel(
        AXIS,
        lambda step: jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0),
        local_batch,
        globalize,
    ),
}


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Refuse a batch that does not divide evenly among the devices.

    Raises:
        InputError: with the nearest batch sizes that do.
    """
    devices = mesh.devices.size
    if batch_size < 1 or batch_size % devices:
        smaller = batch_size // devices * devices
        sizes = " or ".join(str(size) for size in (smaller, smaller + devices) if size > 0)
        raise InputError(
            f"config.train.batch_size={batch_size} cannot be shared by {devices} devices; give {sizes}"
        )
