"""The available processor cores and memory, and the refusal of work that needs more memory."""

import os
import sys
from pathlib import Path

from kneefair_jax.errors import InputError

GIB = 2**30
# Limits of a container: cgroups of version 2, then 1.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def core_count() -> int:
    """Return the number of processor cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS has no affinity


def host_bytes() -> int:
    """Return the memory of this machine, or of its container if that is less."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in _LIMITS:
        try:
            sizes.append(int(path.read_text()))
        except (OSError, ValueError):  # another version of cgroups; "max" means no limit
            continue
    return min(size for size in sizes if size > 0)


def device_bytes() -> int:
    """Return the total memory of all devices; on CPUs, that of the host, which they share."""
    import jax  # not needed by reading processes, which only use the host's memory

    device = jax.devices()[0]
    limit = None if device.platform == "cpu" else (device.memory_stats() or {}).get("bytes_limit")
    return host_bytes() if limit is None else int(limit) * jax.device_count()


def require(needed: int, what: str, remedy: str) -> None:
    """Refuse work that needs more memory than the devices have.

    Args:
        needed: bytes, at least.
        what: the setting and its value, the start of the message.
        remedy: what the user can do, the end of the message.

    Raises:
        InputError: the devices have less; the message has both numbers.
    """
    if needed > (available := device_bytes()):
        raise InputError(
            f"{what}: this needs about {needed / GIB:.3g} GiB of memory, and {available / GIB:.3g} GiB are available; "
            f"{remedy}"
        )
