"""docs/performance.md shows the numbers of the result files."""

import pytest

from benchmarks import performance_page, performance_tables

LIMITS = {"flops_per_second": {"float32": 1e12, "bfloat16": 2e12}, "bytes_per_second": 1e9}


def row(**torch):
    cost = {"milliseconds": 12.34, "flops_per_second": 5e11, "arithmetic_share": 0.25, "roofline_share": 0.5}
    cost |= {"peak_bytes": 3 * 2**20, "compile_seconds": 4.0}
    return {"network": "unet", "side": 512, "dtype": "bfloat16", "batch_size": 16, "jax": cost} | torch


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_committed_page_is_that_of_the_committed_results():
    assert performance_page.PAGE.read_text() == performance_page.page(performance_page.read())


def test_the_readme_quotes_the_committed_results():
    sections = performance_page.read()["gpu"]["sections"]
    row = sections["train_step"]["result"]["rows"][0]
    assert [row[key] for key in ("network", "side", "dtype", "batch_size")] == ["unet", 512, "bfloat16", 16]
    text = " ".join((performance_page.ROOT / "README.md").read_text().split())
    eager, compiled = (row[f"torch_{name}"]["speed_ratio"] for name in ("eager", "compile"))
    waiting = sections["pipeline"]["result"]["waiting"]["overlapped"]["share"]
    assert (
        f"takes {row['jax']['milliseconds']:.1f} ms: {eager:.2f} times as fast as PyTorch's eager mode"
        in text
    )
    assert f"{compiled:.2f} times as fast as `torch.compile`" in text
    assert f"waits for data {100 * waiting:.1f} % of the time" in text
    eager = performance_page.read()["train_step"]["rows"][0]["torch_eager"]
    assert (
        f"runs at {eager['speed_ratio']:.2f} of PyTorch's speed, and at {eager['several_ratio']:.2f} with"
        in text
    )


def test_a_row_shows_its_times_ratios_and_shares():
    rows = [
        row(torch_eager={"milliseconds": 24.68, "speed_ratio": 2.0}, torch_compile={"error": "no compiler"}),
        row(),
    ]
    head, _, *lines = cells(performance_tables.step_table({"rows": rows}))
    first = dict(zip(head, lines[0], strict=True))
    assert first["ms"] == "12.3" and first["PyTorch eager, ms (ratio)"] == "24.7 (2.00)"
    assert first["PyTorch compile, ms (ratio)"] == "failed"
    assert (first["TFLOP/s"], first["arithmetic share"], first["roofline share"]) == ("0.500", "25%", "50%")
    assert (first["least time set by"], first["MiB"], first["compile s"]) == ("traffic", "3.00", "4.00")
    assert len(lines) == 2


def test_what_failed_is_on_the_page():
    rows = [row(torch_eager={"milliseconds": 1.0, "speed_ratio": 1.0, "same_loss": False})]
    result = {
        "roofline": LIMITS,
        "rows": rows,
        "errors": ["large 512: OutOfMemory\nmore"],
        "not_measured": ["x8"],
    }
    notes = " ".join(performance_tables.step_notes(result))
    assert "unet 512 bfloat16, torch_eager" in notes and "OutOfMemory" in notes and "x8" in notes
    assert "no such row" in performance_page.aims(rows)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (1e-7, "1.00e-07"),
        (0.0449, "0.045"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (99.96, "100.0"),
    ],
)
def test_numbers(value, text):
    assert performance_tables.number(value) == text


def test_kernels_by_kind():
    names = [
        "sm80_xmma_dgrad_implicit_gemm",
        "input_add_reduce_fusion",
        "nchwToNhwcKernel",
        "loop_convert_fusion",
    ]
    assert [performance_page.kind(name) for name in names] == ["convolution", "fusion", "other", "fusion"]


def test_the_summary_has_the_first_rows_and_the_median_of_the_seeds():
    eager = {"speed_ratio": 0.8, "several_ratio": 0.9, "forward_ratio": 0.7}
    results = {
        "train_step": {"rows": [row(torch_eager=eager), row(torch_eager={"speed_ratio": 0.1})]},
        "time_to_quality": {"jsrt": {"comparison": {"ratio": {"loop": [3.0, 1.0, 1.5]}}}},
        "phantom": {"online": {"share": 0.25}},
    }
    (text,) = performance_tables.summary(results)
    assert [line[:2] for line in text.splitlines()] == ["* "] * 3
    assert all(part in text for part in ("step 0.80", "steps_per_call=4` 0.90", "pass 0.70", "1.50", "25%"))
    assert performance_tables.summary({}) == []
