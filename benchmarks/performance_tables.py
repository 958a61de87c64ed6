"""Tables and sentences of docs/performance.md."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.train_step import VARIANTS


def number(value: float | None, digits: int = 3) -> str:
    """A number with significant digits and thousands separators; `-` for None."""
    if value is None:
        return "-"
    if value == 0 or abs(value) < 1e-3:
        return f"{value:.{digits - 1}e}" if value else "0"
    decimals = max(0, digits - len(str(int(abs(value)))) if abs(value) >= 1 else digits)
    return f"{value:,.{decimals}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def source(result: Mapping[str, Any], command: str) -> str:
    """Hardware, versions, date, load and command of a benchmark on a CPU."""
    hardware = result["hardware"]
    environment = result.get("environment", result)
    versions = environment.get("versions", {}) | {
        name: version for name, version in result.get("versions", {}).items() if version
    }
    version_list = [
        f"{name} {versions[name]}" for name in ("jax", "numpy", "scipy", "fairlearn") if name in versions
    ]
    version_list += [f"torch {result['torch']['torch']}"] if "torch" in result else []
    date = (environment.get("started") or "")[:10]
    load = f", load average {result['load_average'][0]:.1f}" if "load_average" in result else ""
    return (
        f"`{command}`; {hardware['processor']}, {hardware['cores']} cores{load}; "
        f"{', '.join(version_list)}{f'; {date}' if date else ''}."
    )


def step_table(result: Mapping[str, Any]) -> str:
    """Rows of `train_step` beside PyTorch's."""
    rows = result["rows"]
    variants = [name for name in VARIANTS if any(f"torch_{name}" in row for row in rows)]
    head = ["network", "image", "type", "batch", "ms"]
    head += [f"PyTorch {name}, ms (ratio)" for name in variants]
    head += ["TFLOP/s", "arithmetic share", "roofline share", "least time set by", "MiB", "compile s"]
    lines = []
    for row in rows:
        jax_row = row["jax"]
        line = [row["network"], f"{row['side']} x {row['side']}", row["dtype"], str(row["batch_size"])]
        line.append(number(jax_row["milliseconds"]))
        for name in variants:
            torch_row = row.get(f"torch_{name}", {})
            line.append(
                f"{number(torch_row['milliseconds'])} ({torch_row['speed_ratio']:.2f})"
                if "milliseconds" in torch_row
                else "failed"
            )
        shares = jax_row.get("arithmetic_share"), jax_row.get("roofline_share")
        line.append(number(jax_row["flops_per_second"] / 1e12) if "flops_per_second" in jax_row else "-")
        line += ["-" if share is None else f"{share:.0%}" for share in shares]
        line.append("-" if None in shares else "arithmetic" if shares[0] == shares[1] else "traffic")
        line.append(number(jax_row["peak_bytes"] / 2**20) if "peak_bytes" in jax_row else "-")
        lines.append([*line, number(jax_row["compile_seconds"])])
    return table(head, lines)


def differing(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Rows whose first loss differs from PyTorch's."""
    return [
        f"{row['network']} {row['side']} {row['dtype']}, {key}"
        for row in rows
        for key, value in row.items()
        if isinstance(value, dict) and value.get("same_loss") is False
    ]


def step_notes(result: Mapping[str, Any]) -> list[str]:
    """Sentences about a table of training steps."""
    limits = result["roofline"]
    rates = ", ".join(
        f"{number(rate / 1e12)} TFLOP/s in {name}" for name, rate in limits["flops_per_second"].items()
    )
    notes = [
        f"Measured limits of the device: {rates}; {number(limits['bytes_per_second'] / 1e9)} GB/s of a copy."
    ]
    if rows := differing(result["rows"]):
        notes.append(f"The first loss differs from PyTorch's: {'; '.join(rows)}.")
    if titles := result.get("not_measured"):
        notes.append(f"Not measured, because the time was over: {', '.join(titles)}.")
    if errors := result.get("errors"):
        notes.append(f"Failed: {'; '.join(error.splitlines()[0][:200] for error in errors)}.")
    return notes
