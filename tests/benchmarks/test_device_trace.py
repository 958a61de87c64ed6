"""A trace is summed by operation; overlapping operations are busy once."""

from types import SimpleNamespace

import pytest

from benchmarks import device_trace
from benchmarks.device_trace import Event


def profile(**planes):
    """Plane -> line -> [(name, start, duration)], as the profiler gives them."""
    return SimpleNamespace(
        planes=[
            SimpleNamespace(
                name=name.replace("_", ":"),
                lines=[
                    SimpleNamespace(
                        name=line,
                        events=[SimpleNamespace(name=n, start_ns=s, duration_ns=d) for n, s, d in events],
                    )
                    for line, events in lines.items()
                ],
            )
            for name, lines in planes.items()
        ]
    )


def test_summary():
    events = [Event("b", 3e6, 4e6), Event("a", 0.0, 2e6), Event("a", 5e6, 6e6)]
    result = device_trace.summary(events, largest=1)
    assert result["total_milliseconds"] == 12
    assert result["busy_milliseconds"] == 10  # 0-2 and 3-11
    assert result["elapsed_milliseconds"] == 11
    assert result["operations"] == [
        {"name": "a", "count": 2, "milliseconds": 8, "share": pytest.approx(2 / 3)}
    ]
    assert device_trace.summary([])["operations"] == []


def test_a_gpu_s_streams_are_read_once():
    lines = {"Stream #7(Compute)": [("kernel", 0.0, 5.0)], "XLA Ops": [("fusion", 0.0, 5.0)]}
    host = {"tf_XLAEigen/1": [("dot", 0.0, 1.0)]}
    planes = {"/device_GPU_0": lines, "/host_CPU": host}
    assert list(device_trace.device_events(profile(**planes))) == [Event("kernel", 0.0, 5.0)]


def test_without_an_accelerator_the_threads_of_xla_are_read():
    host = {
        "python": [("call", 0.0, 9.0)],
        "tf_XLAEigen/1": [("dot", 0.0, 1.0), ("ThreadpoolListener::Record", 0.0, 0.0)],
    }
    assert list(device_trace.device_events(profile(**{"/host_CPU": host}))) == [Event("dot", 0.0, 1.0)]
