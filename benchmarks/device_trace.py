"""Find where a step's time goes on a device, from a short trace of JAX's profiler: the operations that take longest."""

import collections
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Event(NamedTuple):
    """One operation on one line of a trace: its name, and nanoseconds."""

    name: str
    start: float
    duration: float


def trace(run: Callable[[], Any]) -> list[Event]:
    """Runs a function under the profiler and returns what devices did meanwhile.

    Args:
        run: returns what is to be waited for.

    Raises:
        FileNotFoundError: the profiler wrote nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(run())
        files = sorted(Path(folder).rglob("*.xplane.pb"))
        if not files:
            raise FileNotFoundError("the profiler wrote no trace")
        return list(device_events(jax.profiler.ProfileData.from_file(str(files[0]))))


def device_events(profile: Any) -> Iterable[Event]:
    """Events of the devices' streams; on a CPU those of XLA's threads.

    Args:
        profile: a `jax.profiler.ProfileData`.
    """
    planes = list(profile.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    lines = [line for plane in devices for line in plane.lines]
    # The other lines of a GPU show the same time again, by module and by operation.
    lines = [line for line in lines if line.name.startswith("Stream")] or lines
    if not devices:
        host = [line for plane in planes if plane.name == "/host:CPU" for line in plane.lines]
        lines = [line for line in host if line.name.startswith("tf_XLA")]
    for line in lines:
        for event in line.events:
            # On a CPU, a name with a space or a colon is the runtime's, not an operation's.
            if devices or not set(event.name) & set(" :"):
                yield Event(event.name, event.start_ns, event.duration_ns)


def summary(events: Iterable[Event], largest: int = 25) -> dict[str, Any]:
    """Total, busy and elapsed time, and the operations that take longest.

    Returns:
        `total_milliseconds` of all events; `busy_milliseconds` in which at least one ran; `elapsed_milliseconds` from
        the first to the last; `operations`, rows of `name`, `count`, `milliseconds`, `share` of the total.
    """
    events = sorted(events, key=lambda event: event.start)
    duration: collections.Counter[str] = collections.Counter()
    count: collections.Counter[str] = collections.Counter()
    busy, end = 0.0, float("-inf")
    for event in events:
        duration[event.name] += event.duration
        count[event.name] += 1
        stop = event.start + event.duration
        busy += max(0.0, stop - max(event.start, end))
        end = max(end, stop)
    total = sum(duration.values())
    return {
        "total_milliseconds": total / 1e6,
        "busy_milliseconds": busy / 1e6,
        "elapsed_milliseconds": (end - events[0].start) / 1e6 if events else 0.0,
        "operations": [
            {"name": name[:120], "count": count[name], "milliseconds": value / 1e6, "share": value / total}
            for name, value in duration.most_common(largest)
            if total
        ],
    }
