"""The training step as it is run: compiled at its first call, told of, and closed to transfers unasked for."""

from collections.abc import Callable
from typing import Any

import jax

from kneefair_jax.training.sharding import Parallel

COMPILATION = "/jax/core/compile/backend_compile_duration"


def once(parallel: Parallel, step: Callable[..., Any], parts: int = 1) -> Callable[..., Any]:
    """The step for all devices; before its first update it prints `cost`.

    Arrays on the host, and those laid out otherwise than the step wants them, are refused with JAX's error: to copy
    them in silence would cost time at every step.

    Args:
        parallel: how devices share it.
        step: `(state, batch, teachers) -> (state, metrics)`; the result donates the state.
        parts: of a batch that it takes one after another (`accumulation`).
    """
    run = parallel.compiled(step)
    told = False

    def checked(*arguments: Any) -> Any:
        nonlocal told
        if not told:
            told = True
            # What this compiles is what the call below finds compiled.
            print(cost(run.lower(*arguments).compile(), parts), flush=True)
        with jax.transfer_guard("disallow"):
            return parallel.whole(run(*arguments))

    return checked


def cost(compiled: jax.stages.Compiled, parts: int = 1) -> str:
    """`a step: 12.3 GFLOP, 210 MiB of temporaries, 35 MiB of arguments`, of each device, as far as XLA tells.

    XLA counts the body of a loop once, so that the operations are of one of the `parts` of a batch.
    """
    told = []
    flops = (compiled.cost_analysis() or {}).get("flops", 0)
    if flops > 0:
        told.append(f"{flops / 1e9:.3g} GFLOP" + (f" for each of {parts} parts" if parts > 1 else ""))
    if (memory := compiled.memory_analysis()) is not None:
        told.append(f"{memory.temp_size_in_bytes / 2**20:.3g} MiB of temporaries")
        told.append(f"{memory.argument_size_in_bytes / 2**20:.3g} MiB of arguments")
    each = " on each device" if jax.device_count() > 1 else ""
    return f"a step{each}: {', '.join(told) or 'its cost is not known here'}"


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
