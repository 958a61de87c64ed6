"""Data parallelism: one mesh axis over every device, state replicated, batches split.

`jit` lets XLA divide the step over the devices, from how its arguments are laid out, which is what JAX recommends;
`pmap` runs it once on each device, with collectives over the axis `data`. Both give the result of a single device.
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
        axis: the name that collectives in the step go by; None where the step sees the global batch.
        compiled: `step(state, batch, teachers)` -> the same, to be compiled; it donates the state.
        place: this host's share of a batch, and the mesh -> the batch as `compiled` takes it.
        whole: what `compiled` returns -> arrays on the devices of all hosts.
    """

    axis: str | None
    compiled: Callable[[Callable[..., Any]], jax.stages.Wrapped]
    place: Callable[[Batch, Mesh], dict[str, Any]]
    whole: Callable[[Any], Any]


def data_mesh() -> Mesh:
    """All devices of all hosts on one axis called `data`."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The first axis divided over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def global_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """This host's share of a batch -> global arrays, split over all devices of all hosts."""
    return jax.make_array_from_process_local_data(split(mesh), batch)


def local_batch(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """This host's share of a batch [B, ...] -> [devices of this host, B / devices, ...], as `jax.pmap` wants it."""
    del mesh
    devices = jax.local_devices()  # in the order of pmap, which may not be a mesh's
    cut = {name: array.reshape(len(devices), -1, *array.shape[1:]) for name, array in batch.items()}
    return jax.device_put(cut, NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS)))


def of_all_hosts(tree: Any) -> Any:
    """What pmap returns, which is of this host's devices alone -> global arrays: the other hosts have the same."""
    if jax.process_count() == 1:
        return tree
    everywhere = replicated(data_mesh())

    def whole(x: jax.Array) -> jax.Array:
        shards = [shard.data for shard in x.addressable_shards]
        return jax.make_array_from_single_device_arrays(x.shape, everywhere, shards)

    return jax.tree.map(whole, tree)


PARALLEL = {
    "jit": Parallel(None, lambda step: jax.jit(step, donate_argnums=0), global_batch, lambda tree: tree),
    "pmap": Parallel(
        AXIS,
        lambda step: jax.pmap(step, axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0),
        local_batch,
        of_all_hosts,
    ),
}


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
