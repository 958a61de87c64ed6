"""Compile the training step at its first call, print what it costs, and forbid implicit transfers."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from kneefair_jax.training.sharding import Parallel

COMPILATION = "/jax/core/compile/backend_compile_duration"


def compile_step(parallel: Parallel, step: Callable[..., Any], micro_batches: int = 1) -> Callable[..., Any]:
    """Return the step for all devices; it compiles at its first call, which prints its cost (`cost`).

    The step refuses arrays on the host, and arrays with another layout than it requires, with JAX's error: an implicit
    copy would cost time at every step.

    Args:
        parallel: the way to share the step among devices.
        step: `(state, batch, teachers) -> (state, metrics)`; the result donates the state.
        micro_batches: of a batch, one after another (`accumulation`).
    """
    run = parallel.compiled(step)
    compiled = False

    def checked(*arguments: Any) -> Any:
        nonlocal compiled
        if not compiled:
            compiled = True
            flops = written_flops(run, *arguments)
            if flops is not None and parallel.axis is None:
                flops /= jax.device_count()  # pmap's program is that of one device already
            # The call below reuses this compilation.
            print(cost(run.lower(*arguments).compile(), flops, micro_batches), flush=True)
        with jax.transfer_guard("disallow"):
            return parallel.whole(run(*arguments))

    return checked


def written_flops(run: jax.stages.Wrapped, *arguments: Any) -> float | None:
    """Count the floating-point operations of a call as the program is written, before any optimization.

    A CPU's backend counts a lowered program, so the program is lowered for the CPU. A GPU's backend does not count
    one, and its count of a compiled program omits the convolutions that cuDNN computes. The body of a loop counts once.

    Args:
        run: a function under `jax.jit`, whose program is that of all devices, or `jax.pmap`, whose program is that of
            one device.
        arguments: pytrees of arrays or `jax.ShapeDtypeStruct`.

    Returns:
        None where the count is not known: JAX has no CPU backend (`JAX_PLATFORMS=cuda`), or `jax.pmap` lowers for an
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
        micro_batches: of a batch.
    """
    costs = []
    if flops is not None:
        each = f" for each of {micro_batches} parts" if micro_batches > 1 else ""
        costs.append(f"{flops / 1e9:.3g} GFLOP{each}")
    if (memory := compiled.memory_analysis()) is not None:
        costs.append(f"{memory.temp_size_in_bytes / 2**20:.3g} MiB of temporaries")
        costs.append(f"{memory.argument_size_in_bytes / 2**20:.3g} MiB of arguments")
    each_device = " on each device" if jax.device_count() > 1 else ""
    return f"a step{each_device}: {', '.join(costs) or 'its cost is not known'}"


class Compilations:
    """Counts what JAX compiles, and tells of it where none should be left: after the first evaluation, all is done.

    Attributes:
        count: so far, since this was made.
    """

    def __init__(self) -> None:
        self.count = 0
        self._known: int | None = None
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        del duration_secs, kwargs
        self.count += event == COMPILATION

    def tell(self, step: int) -> None:
        """To be called after each evaluation; from the second on it prints a note if there were more compilations."""
        if self._known is not None and (more := self.count - self._known):
            print(
                f"note: {more} functions were compiled again by step {step}; that takes time at each change of shapes",
                flush=True,
            )
        self._known = self.count

    def close(self) -> None:
        """Stops counting."""
        jax.monitoring.unregister_event_duration_listener(self._heard)
