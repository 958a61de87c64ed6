"""Measure the limits of a device: matrix products in each type, and copies.

python -m benchmarks.roofline
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp


class Roofline(NamedTuple):
    """What a device does at most.

    Attributes:
        flops_per_second: of a product of two large square matrices, by type; float32 in the backend's default
            precision (TF32 on recent GPUs), as networks run in it.
        bytes_per_second: of a copy, bytes read and written.
    """

    flops_per_second: dict[str, float]
    bytes_per_second: float

    def seconds(self, dtype: str, flops: float, bytes_accessed: float) -> float:
        """The least time for that much work: the larger of arithmetic and memory traffic."""
        return max(flops / self.flops_per_second[dtype], bytes_accessed / self.bytes_per_second)


def measure(side: int | None = None, mebibytes: int | None = None) -> Roofline:
    """Measures the default device.

    Args:
        side: of the matrices; by default 8192 on an accelerator and 1024 on a CPU.
        mebibytes: of the copied array; by default 2048 on an accelerator and 256 on a CPU.
    """
    cpu = jax.default_backend() == "cpu"
    side, mebibytes = side or (1024 if cpu else 8192), mebibytes or (256 if cpu else 2048)
    rates = {}
    for dtype in ("float32", "bfloat16"):
        # Of random numbers: products of zeros can run faster than those of data.
        a, b = (
            jax.random.normal(jax.random.key(seed), (side, side), jnp.float32).astype(dtype)
            for seed in range(2)
        )
        rates[dtype] = 2 * side**3 / median_seconds(jax.jit(jnp.matmul), a, b)
    x = jnp.zeros((mebibytes * 2**20 // 4,), jnp.float32)
    return Roofline(rates, 2 * x.nbytes / median_seconds(jax.jit(lambda x: x + 1), x))


def median_seconds(function: Callable[..., Any], *arguments: Any, calls: int = 5, rounds: int = 7) -> float:
    """Median over rounds of the mean time of some calls; the first call, which compiles, is not among them."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            result = function(*arguments)
        jax.block_until_ready(result)
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def main() -> None:
    """Prints the limits as JSON."""
    print(json.dumps(measure()._asdict(), indent=2))


if __name__ == "__main__":
    main()
