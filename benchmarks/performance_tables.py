"""Tables and sentences of docs/performance.md."""

import statistics
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


def step_table(result: Mapping[str, Any], *, roofline: bool = True) -> str:
    """Rows of `train_step` beside PyTorch's.

    Args:
        result: of `train_step`.
        roofline: whether to show shares of the roofline. XLA's estimate of the traffic, which knows no cache, exceeds a
            CPU's true one so much that they have no meaning there.
    """
    rows = result["rows"]
    variants = [name for name in VARIANTS if any(f"torch_{name}" in row for row in rows)]
    head = ["network", "image", "type", "batch", "ms"]
    head += [f"PyTorch {name}, ms (ratio)" for name in variants]
    head += ["TFLOP/s", "arithmetic share"]
    head += ["roofline share", "least time set by"] if roofline else []
    head += ["MiB", "compile s"]
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
        line += ["-" if share is None else f"{share:.0%}" for share in shares[: 2 if roofline else 1]]
        if roofline:
            line.append("-" if None in shares else "arithmetic" if shares[0] == shares[1] else "traffic")
        line.append(number(jax_row["peak_bytes"] / 2**20) if "peak_bytes" in jax_row else "-")
        lines.append([*line, number(jax_row["compile_seconds"])])
    return table(head, lines)


def extra_table(result: Mapping[str, Any], name: str) -> str:
    """Times of `forward` or `several` (`train_step.add_extra`) beside PyTorch's; "" where no row has them."""
    lines = []
    for row in result["rows"]:
        if f"{name}_milliseconds" in row["jax"]:
            torch_row = row.get("torch_eager", {})
            line = [row["network"], f"{row['side']} x {row['side']}", row["dtype"], str(row["batch_size"])]
            line += [number(side.get(f"{name}_milliseconds")) for side in (row["jax"], torch_row)]
            lines.append([*line, number(torch_row.get(f"{name}_ratio"))])
    return (
        table(("network", "image", "type", "batch", "ms", "PyTorch eager, ms", "ratio"), lines)
        if lines
        else ""
    )


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


def summary(results: Mapping[str, Any]) -> list[str]:
    """The main numbers of the page, a line each, of the results that exist."""
    lines = []
    gpu = {name: part.get("result", {}) for name, part in results.get("gpu", {}).get("sections", {}).items()}
    for row in gpu.get("train_step", {}).get("rows", [])[:1]:
        ratios = [
            f"{row[f'torch_{name}']['speed_ratio']:.2f} times the speed of PyTorch {name}"
            for name in VARIANTS
            if "speed_ratio" in row.get(f"torch_{name}", {})
        ]
        lines.append(
            f"Training step on a GPU, {_setting(row)}: {number(row['jax']['milliseconds'])} ms, "
            f"{' and '.join(ratios)}."
        )
    for row in results.get("train_step", {}).get("rows", [])[:1]:
        torch_row = row.get("torch_eager", {})
        ratios = [
            f"{name} {torch_row[key]:.2f}"
            for name, key in (
                ("step", "speed_ratio"),
                ("step with `train.steps_per_call=4`", "several_ratio"),
                ("forward pass", "forward_ratio"),
            )
            if key in torch_row
        ]
        lines.append(
            f"Speed on a CPU relative to PyTorch, {_setting(row)}: {', '.join(ratios)}. With several steps in a call, "
            "compilation takes longer, so that it pays for runs of many minutes."
        )
    for name, section in results.get("time_to_quality", {}).items():
        ratio = section.get("comparison", {}).get("ratio", {}).get("loop")
        if ratio:
            lines.append(
                f"Time to quality on a CPU relative to a PyTorch loop ({name}): {statistics.median(ratio):.2f} without "
                "compilation; below 1 this package is faster."
            )
    if online := results.get("phantom", {}).get("online"):
        lines.append(f"Drawing phantoms inside the step adds {online['share']:.0%} to a step on a CPU.")
    if waiting := gpu.get("pipeline", {}).get("waiting"):
        lines.append(f"The GPU waits for data {waiting['overlapped']['share']:.1%} of the time.")
    return ["\n".join(f"* {line}" for line in lines)] if lines else []


def _setting(row: Mapping[str, Any]) -> str:
    """Network, image, batch size and type of a row."""
    return f"{row['network']}, {row['side']} x {row['side']}, batch {row['batch_size']}, {row['dtype']}"


def growth_section(growth: Mapping[str, Any]) -> list[str]:
    """How the cost grows: a part for each section of `benchmarks.growth` that has a result."""
    parts = {
        "steps": growth_of_steps,
        "groups": growth_of_groups,
        "bootstrap": growth_of_bootstrap,
        "evaluation": growth_of_evaluation,
        "start_up": start_up,
    }
    text = ["## How cost grows"]
    for name, part in parts.items():
        if section := growth.get(name):
            title, *lines = part(section)
            text += [f"### {title}", source(section, f"python -m benchmarks.growth --only {name}"), *lines]
    return text


def growth_of_steps(section: Mapping[str, Any]) -> list[str]:
    """Tables of a training step against the image's side and the batch size."""
    text = [
        "Training step: image and batch",
        "The network of the quick start, float32, without augmentation. The growth is the factor of the time when the "
        "pixels of a batch double, since the row above: 2 is linear.",
    ]
    for rows in (section["side"], section["batch_size"]):
        lines = [
            [
                f"{row['side']} x {row['side']}",
                str(row["batch_size"]),
                number(row["milliseconds"]),
                number(row["milliseconds"] / row["batch_size"]),
                number(row.get("growth_per_doubling")),
            ]
            for row in rows
        ]
        text.append(table(["image", "batch", "ms", "ms a case", "growth"], lines))
    return text


def growth_of_groups(section: Mapping[str, Any]) -> list[str]:
    """The table of a training step against the number of groups."""
    lines = [
        [
            f"`{row['objective']}`",
            str(row["groups"]),
            number(row["milliseconds"]),
            f"{row['share']:+.1%} ({row['spread'][0]:+.1%} to {row['spread'][1]:+.1%})",
            f"{number(row['alone_microseconds'])} ({row['alone_share']:.2%})",
        ]
        for row in section["rows"]
    ]
    alone = max(row["alone_share"] for row in section["rows"])
    low = min(row["spread"][0] for row in section["rows"])
    high = max(row["spread"][1] for row in section["rows"])
    return [
        "Training step: groups",
        f"At {section['side']} x {section['side']}, batches of {section['batch_size']}, beside `erm` with one group "
        f"({number(section['erm_milliseconds'])} ms). The added share is the median of the rounds' ratios, with the "
        "smallest and the largest; the last column is the objective and the sums by group as a program of their own, "
        f"with its share of a step. Aim: below 2 %. Single rounds differ by {low:+.0%} to {high:+.0%}, so that the "
        "added share cannot resolve 2 %, and a negative one is noise; as a program of its own, the objective takes at "
        f"most {alone:.2%} of a step.",
        table(["objective", "groups", "ms", "added share", "alone, µs"], lines),
    ]


def growth_of_bootstrap(section: Mapping[str, Any]) -> list[str]:
    """The table of a report's statistics against bootstrap draws."""
    lines = [
        [f"{row['draws']:,}", number(row["seconds"]), number(row.get("growth_per_doubling"))]
        for row in section["rows"]
    ]
    return [
        "Statistics of a report: draws",
        f"All statistics of the report of {section['patients']:,} patients, four structures, sex and race. The growth "
        "is the factor of the time when the draws double.",
        table(["draws", "s", "growth"], lines),
    ]


def growth_of_evaluation(section: Mapping[str, Any]) -> list[str]:
    """The table of an evaluation against the number of cases."""
    lines = [
        [
            f"{row['size']:,}",
            number(row["processor_seconds"]),
            number(row.get("milliseconds_per_added_case")),
            number(row["gibibytes"]),
            number(row.get("kibibytes_per_added_case")),
        ]
        for row in section["rows"]
    ]
    side = section["side"]
    return [
        "Evaluation: cases",
        f"`kneefair evaluate` of a run: scores of a store of {side} x {side} phantoms in batches of "
        f"{section['batch_size']}, the per-case table, the predictions, the report with 200 draws. Each size has a "
        "process of its own. Label maps are written while cases are scored, so that memory does not grow with the "
        "pixels of the cohort; the table of scores stays in memory.",
        table(["test cases", "processor s", "ms an added case", "peak GiB", "KiB an added case"], lines),
    ]


def start_up(section: Mapping[str, Any]) -> list[str]:
    """The table of times from the start of a process, and the number of compilations."""
    lines = [[f"`{name}`", number(seconds), ""] for name, seconds in section["seconds"].items()]
    lines += [
        [
            f"`kneefair train --config=smoke`, {name}",
            number(seconds),
            number(section["run_seconds"][name]),
        ]
        for name, seconds in section["first_step_seconds"].items()
    ]
    programs = ", ".join(f"`{name}` {count}" for name, count in sorted(section["programs"].items()))
    again = ", ".join(section["compiled_again"])
    return [
        "Start",
        "Seconds from the start of the process; of a run, to the end of its first training step, and to the end of its "
        "report. The compilation cache is JAX's (`JAX_COMPILATION_CACHE_DIR`). Prepared cases are those of an earlier "
        "run; without them, the phantoms are drawn first. Aim: below 6 s with a warm cache.",
        table(["command", "s", "whole run, s"], lines),
        f"Compilations of the cold run by program: {programs}. "
        + (
            f"Compiled again with the same shapes: {again}."
            if again
            else "No program is compiled twice with the same shapes."
        ),
    ]
