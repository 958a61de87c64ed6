"""Results of several runs on a GPU become those of one."""

import pytest

from benchmarks import gpu, gpu_merge
from benchmarks.jax_step import Setting
from kneefair_jax.errors import InputError

LIMITS = {"flops_per_second": {"float32": 1e9, "bfloat16": 2e9}, "bytes_per_second": 1e8}


def row(title, milliseconds):
    network, side, dtype, batch = title.split()
    setting = Setting(network, int(side), dtype, int(batch[1:]))
    cost = {"milliseconds": milliseconds, "compile_seconds": 1.0, "flops": 1e6, "bytes_accessed": 4e5}
    return setting._asdict() | {"jax": cost}


def run(rows, not_measured=(), device="1 x H100", **sections):
    result = {"roofline": LIMITS, "rows": rows, "errors": [], "not_measured": list(not_measured)}
    environment = {"status": "ok", "result": {"device": device}}
    training = {"status": "ok", "seconds": 10.0, "result": result}
    return {"environment": environment, "train_step": training} | sections


def test_rows_are_united_and_the_last_success_of_a_section_stands():
    small, large, late = "unet 128 float32 x8", "large 512 bfloat16 x16", "unet 1024 float32 x4"
    first = run([row(large, 50.0)], [small, late], phantoms={"status": "failed"}, trace={"status": "ok"})
    second = run([row(small, 4.0), row(large, 49.0)], phantoms={"status": "ok"}, trace={"status": "timeout"})
    merged = gpu_merge.merge(first, second)
    result = merged["train_step"]["result"]
    assert [(r["network"], r["jax"]["milliseconds"]) for r in result["rows"]] == [
        ("large", 49.0),
        ("unet", 4.0),
    ]
    assert result["not_measured"] == [late] and merged["train_step"]["seconds"] == 20
    assert merged["phantoms"]["status"] == merged["trace"]["status"] == "ok"
    assert "not measured, the time was over: " + late in gpu.summary(merged)


def test_ends_of_logs_are_dropped():
    sections = {"trace": {"error": "stopped after 9 s; the log ends: /home/x"}, "pipeline": {"status": "ok"}}
    assert gpu_merge.without_logs(sections) == {
        "trace": {"error": "stopped after 9 s"},
        "pipeline": {"status": "ok"},
    }


def test_results_of_different_devices_are_refused():
    with pytest.raises(InputError):
        gpu_merge.merge(run([]), run([], device="1 x H200"))


def test_rates_follow_from_flops_and_time():
    result = gpu_merge.with_flops({"roofline": LIMITS, "rows": [row("unet 128 float32 x8", 10.0)]})
    cost = result["rows"][0]["jax"]
    assert cost["flops_per_second"] == pytest.approx(1e8)
    # 1 ms of arithmetic, 4 ms of memory traffic.
    assert cost["arithmetic_share"] == pytest.approx(0.1) and cost["roofline_share"] == pytest.approx(0.4)


def test_flops_that_a_row_lacks_are_counted(monkeypatch):
    monkeypatch.setattr(gpu_merge.jax_step, "first_state", lambda setting, network: network["widths"])
    monkeypatch.setattr(
        gpu_merge.jax_step, "written_flops", lambda setting, network, start: setting.side * float(start[0])
    )
    other = row("large 512 float32 x2", 10.0)
    del other["jax"]["flops"]
    result = gpu_merge.with_flops({"roofline": LIMITS, "rows": [other]})
    assert result["rows"][0]["jax"]["flops"] == 512 * 64
    assert "flops" not in other["jax"]
