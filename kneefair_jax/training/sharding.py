"""How a step runs: its batch divided over devices and into micro-batches, and its compilation.

Data parallelism has one mesh axis over every device, replicated state and split batches. `jit` lets XLA divide the step
over the devices, from how its arguments are laid out, which is what JAX recommends; `pmap` runs it once on each device,
with collectives over the axis `data`. Both give a single device's result.

Gradient accumulation takes a batch that exceeds the memory as micro-batches, one after another. The weights of all
examples must be known before the first micro-batch, so only objectives whose weights do not depend on the losses
(`is_linear` of `mitigation.Registration`) work. Then the gradients of the micro-batches add up to that of the whole
batch. Batch normalization normalizes each micro-batch by its own statistics, which are of fewer cases, as on a smaller
batch.

Several steps can be one program (`several_steps`): on a CPU, XLA allocates a program's temporaries at each call, and
the kernel clears their pages.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from kneefair_jax import mitigation
from kneefair_jax.errors import InputError

logger = logging.getLogger(__name__)

COMPILATION = "/jax/core/compile/backend_compile_duration"

# `(params, batch_stats, examples) -> (value f32[], (outputs per example, batch_stats))`.
Function = Callable[[Any, Any, Any], tuple[jax.Array, tuple[Any, Any]]]

AXIS = "data"
# On a CPU, XLA runs the convolutions in a loop without its fast library, ten to thirty times as slowly; up to this many
# micro-batches are then written one after another instead, which takes longer to compile.
_MAX_UNROLLED = 16

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


def check_micro_batches(micro_batches: int, objective: str, batch_size: int, devices: int) -> None:
    """Refuse an objective that needs the losses of the whole batch, and a batch that cannot be divided evenly.

    Args:
        micro_batches: `train.accumulation`.
        objective: a key of `mitigation.OBJECTIVES`.
        batch_size: of the global batch.
        devices: number of devices that share it.

    Raises:
        InputError: with the remedy.
    """
    if micro_batches == 1:
        return
    linear = [name for name, entry in mitigation.OBJECTIVES.items() if entry.is_linear]
    if objective not in linear:
        raise InputError(
            f"config.train.accumulation={micro_batches}: the weights of objective {objective!r} depend on the losses "
            "of the whole batch, which are unknown until its last micro-batch; give 1, or set "
            f"mitigation.objective.name to one of {', '.join(sorted(linear))}"
        )
    if batch_size % (micro_batches * devices):
        raise InputError(
            f"config.train.accumulation={micro_batches}: a batch of {batch_size} on {devices} "
            f"device{'s' * (devices != 1)} cannot be divided into {micro_batches} equal micro-batches; give a "
            f"train.batch_size that is a multiple of {micro_batches * devices}"
        )


def split_micro_batches(tree: Any, micro_batches: int) -> Any:
    """Split arrays [B, ...] into [N, B / N, ...]; each of the N micro-batches takes every N-th example.

    So each device already has its share of every micro-batch, and nothing moves between devices.
    """
    return jax.tree.map(lambda x: x.reshape(-1, micro_batches, *x.shape[1:]).swapaxes(0, 1), tree)


def join_micro_batches(tree: Any) -> Any:
    """Join micro-batches again: the inverse of `split_micro_batches`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), tree)


def accumulated_gradient(
    function: Function, params: Any, batch_stats: Any, examples: Any, micro_batches: int
) -> tuple[Any, tuple[Any, Any]]:
    """Return the gradient of a sum over examples, with one micro-batch in memory at a time.

    Args:
        function: to differentiate by its first argument.
        params: where to take the gradient.
        batch_stats: running statistics; each micro-batch starts from those after the one before it.
        examples: arrays [B, ...], B a multiple of `micro_batches`.
        micro_batches: N; 1 is the plain gradient.

    Returns:
        The gradient, and (the function's outputs per example, in the order of `examples`; batch statistics).
    """
    derivative = jax.grad(function, has_aux=True)
    if micro_batches == 1:
        full: tuple[Any, tuple[Any, Any]] = derivative(params, batch_stats, examples)
        return full

    def add(carry: tuple[Any, Any], micro_batch: Any) -> tuple[tuple[Any, Any], Any]:
        total, stats = carry
        term, (outputs, stats) = derivative(params, stats, micro_batch)
        return (jax.tree.map(jnp.add, total, term), stats), outputs

    zeros = jax.tree.map(jnp.zeros_like, params)
    scan = unrolled_scan if _is_unrolled(micro_batches) else jax.lax.scan
    (total, stats), outputs = scan(add, (zeros, batch_stats), split_micro_batches(examples, micro_batches))
    return total, (join_micro_batches(outputs), stats)


def _is_unrolled(micro_batches: int) -> bool:
    return jax.default_backend() == "cpu" and micro_batches <= _MAX_UNROLLED


def unrolled_scan(function: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any) -> tuple[Any, Any]:
    """Return what `jax.lax.scan` returns, by a program without a loop.

    Unlike `jax.lax.scan(..., unroll=True)` it has barriers between the calls, which therefore use the same memory.

    Args:
        function: `(carry, x) -> (carry, output)`.
        carry: the first one.
        xs: a tree of arrays [N, ...], N at least 1.

    Returns:
        The last carry, and the outputs stacked, [N, ...].
    """
    outputs = []
    for i in range(len(jax.tree.leaves(xs)[0])):
        carry, x = jax.lax.optimization_barrier((carry, jax.tree.map(lambda leaf, i=i: leaf[i], xs)))
        carry, output = function(carry, x)
        outputs.append(output)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)


def several_steps(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that makes a step with each of several batches.

    Args:
        step: `(state, batch, teachers) -> (state, metrics)`.

    Returns:
        `(state, batches, teachers) -> (state, metrics)`, of a tuple of batches, with a tuple of metrics.
    """

    def steps(state: Any, batches: tuple[Any, ...], teachers: Any = None) -> tuple[Any, tuple[Any, ...]]:
        metrics = []
        for batch in batches:
            state, batch = jax.lax.optimization_barrier((state, batch))
            state, of_step = step(state, batch, teachers)
            metrics.append(of_step)
        return state, tuple(metrics)

    return steps


def compile_step(parallel: Parallel, step: Callable[..., Any], micro_batches: int = 1) -> Callable[..., Any]:
    """Return the step for all devices; it compiles at its first call, which logs its cost (`step_cost`).

    The step refuses arrays on the host, and arrays with another layout than it requires, with JAX's error: an implicit
    copy would cost time at every step.

    Args:
        parallel: the way to share the step among devices.
        step: `(state, batch, teachers) -> (state, metrics)`, or `several_steps`; the result donates the state.
        micro_batches: of a batch, one after another (`accumulated_gradient`).
    """
    run = parallel.compile(step)
    parts = 1 if _is_unrolled(micro_batches) else micro_batches
    is_compiled = False

    def guarded(*arguments: Any) -> Any:
        nonlocal is_compiled
        if not is_compiled:
            is_compiled = True
            flops = written_flops(run, *arguments)
            if flops is not None and parallel.axis is None:
                flops /= jax.device_count()  # pmap's program is that of one device already
            steps = len(arguments[1]) if isinstance(arguments[1], tuple) else 1
            # The call below reuses this compilation.
            logger.info("%s", step_cost(run.lower(*arguments).compile(), flops, parts, steps))
        with jax.transfer_guard("disallow"):
            return parallel.globalize(run(*arguments))

    return guarded


def written_flops(run: jax.stages.Wrapped, *arguments: Any) -> float | None:
    """Count the floating-point operations of a call as the program is written, before any optimization.

    A CPU's backend counts a lowered program, so the program is lowered for the CPU. A GPU's backend does not count
    one, and its count of a compiled program omits the convolutions that cuDNN computes. The body of a loop counts once.

    Args:
        run: a function under `jax.jit`, whose program is that of all devices, or `jax.pmap`, whose program is that of
            one device.
        arguments: pytrees of arrays or `jax.ShapeDtypeStruct`.

    Returns:
        None where the count is unknown: JAX has no CPU backend (`JAX_PLATFORMS=cuda`), or `jax.pmap` lowers for an
        accelerator.
    """
    if jax.default_backend() == "cpu":
        # With the arguments as they are: the next call with them is then not traced again.
        return _count(run.lower(*arguments))
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), arguments)
    with jax.default_device(cpu):
        return _count(run.lower(*shapes))


def _count(lowered: jax.stages.Lowered) -> float | None:
    flops = float((lowered.cost_analysis() or {}).get("flops", 0.0))
    return flops if flops > 0 else None


def step_cost(
    compiled: jax.stages.Compiled, flops: float | None, micro_batches: int = 1, steps: int = 1
) -> str:
    """Describe a program: `a step: 12.3 GFLOP, 210 MiB of temporaries, 35 MiB of arguments`, of each device.

    Args:
        compiled: the program.
        flops: of each device (`written_flops`); None leaves them out. Where micro-batches go through a loop, those of
            one of them.
        micro_batches: number of micro-batches that go through a loop; 1 for no loop.
        steps: of the program.
    """
    costs = []
    if flops is not None:
        share = f" for each of {micro_batches} parts" if micro_batches > 1 else ""
        costs.append(f"{flops / 1e9:.3g} GFLOP{share}")
    if (memory := compiled.memory_analysis()) is not None:
        costs.append(f"{memory.temp_size_in_bytes / 2**20:.3g} MiB of temporaries")
        costs.append(f"{memory.argument_size_in_bytes / 2**20:.3g} MiB of arguments")
    each_device = " on each device" if jax.device_count() > 1 else ""
    what = "a step" if steps == 1 else f"a program of {steps} steps"
    return f"{what}{each_device}: {', '.join(costs) or 'its cost is not known'}"


class Compilations:
    """Counts JAX's compilations, and warns of those after the first evaluation, when every program is compiled.

    Attributes:
        count: compilations since this object exists.
    """

    def __init__(self) -> None:
        self.count = 0
        self._reported: int | None = None
        jax.monitoring.register_event_duration_secs_listener(self._on_event)

    def _on_event(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        self.count += event == COMPILATION

    def report(self, step: int) -> None:
        """Log a note, from the second evaluation on, if there were more compilations; call it after each evaluation."""
        if self._reported is not None and (more := self.count - self._reported):
            logger.warning(
                "note: %d functions were compiled again by step %d; that takes time at each change of shapes",
                more,
                step,
            )
        self._reported = self.count

    def close(self) -> None:
        """Stop counting."""
        jax.monitoring.unregister_event_duration_listener(self._on_event)
