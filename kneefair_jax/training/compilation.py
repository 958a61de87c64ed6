"""Compile the training step at its first call, log its cost, and forbid implicit transfers."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kneefair_jax.training.sharding import Parallel

logger = logging.getLogger(__name__)

COMPILATION = "/jax/core/compile/backend_compile_duration"


def compile_step(parallel: Parallel, step: Callable[..., Any], micro_batches: int = 1) -> Callable[..., Any]:
    """Return the step for all devices; it compiles at its first call, which logs its cost (`cost`).

    The step refuses arrays on the host, and arrays with another layout than it requires, with JAX's error: an implicit
    copy would cost time at every step.

    Args:
        parallel: the way to share the step among devices.
        step: `(state, batch, teachers) -> (state, metrics)`; the result donates the state.
        micro_batches: of a batch, one after another (`accumulation`).
    """
    run = parallel.compile(step)
    is_compiled = False

    def guarded(*arguments: Any) -> Any:
        nonlocal is_compiled
        if not is_compiled:
            is_compiled = True
            flops = written_flops(run, *arguments)
            if flops is not None and parallel.axis is None:
                flops /= jax.device_count()  # pmap's program is that of one device already
            # The call below reuses this compilation.
            logger.info("%s", cost(run.lower(*arguments).compile(), flops, micro_batches))
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


def cost(compiled: jax.stages.Compiled, flops: float | None, micro_batches: int = 1) -> str:
    """Describe a step: `a step: 12.3 GFLOP, 210 MiB of temporaries, 35 MiB of arguments`, of each device.

    Args:
        compiled: the step.
        flops: of each device (`written_flops`), of one of the micro-batches; None leaves them out.
        micro_batches: number of micro-batches of a batch.
    """
    costs = []
    if flops is not None:
        share = f" for each of {micro_batches} parts" if micro_batches > 1 else ""
        costs.append(f"{flops / 1e9:.3g} GFLOP{share}")
    if (memory := compiled.memory_analysis()) is not None:
        costs.append(f"{memory.temp_size_in_bytes / 2**20:.3g} MiB of temporaries")
        costs.append(f"{memory.argument_size_in_bytes / 2**20:.3g} MiB of arguments")
    each_device = " on each device" if jax.device_count() > 1 else ""
    return f"a step{each_device}: {', '.join(costs) or 'its cost is not known'}"


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
