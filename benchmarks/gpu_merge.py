r"""Merge results of several runs of benchmarks/gpu.sh on the same kind of device.

    python -m benchmarks.gpu_merge FIRST/gpu.json [SECOND/gpu.json ...] --out FOLDER

A section is the last one that succeeded; rows of `train_step` are united, the last of each title. FLOPs that a row
lacks are counted: they depend on the network alone.
"""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import gpu, jax_step, train_step
from benchmarks.jax_step import Setting
from benchmarks.roofline import Roofline
from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic

Sections = dict[str, Any]


def with_flops(training: dict[str, Any]) -> dict[str, Any]:
    """The result of `train_step` with FLOPs, and what follows from them, in every row; see `train_step.ABOUT_COST`."""
    limits = Roofline(**training["roofline"])
    rows = []
    for row in training["rows"]:
        row = row | {"jax": dict(row["jax"])}
        if "flops" not in row["jax"]:
            setting = Setting(*(row[field] for field in Setting._fields))
            network = jax_step.NETWORKS[setting.network]
            start = jax_step.first_state(setting, network)
            row["jax"]["flops"] = jax_step.written_flops(setting, network, start)
        train_step.add_rates(row, limits)
        rows.append(row)
    return training | {"rows": rows, "about": train_step.ABOUT_COST}


def merge(first: Sections, second: Sections) -> Sections:
    """The sections of two runs as those of one.

    Args:
        first: by name, as in gpu.json.
        second: a later run; its result stands where both have one.

    Raises:
        InputError: the runs were on different devices.
    """
    devices = {run["environment"]["result"]["device"] for run in (first, second) if "environment" in run}
    if len(devices) > 1:
        raise InputError(
            f"results of different devices: {', '.join(sorted(devices))}; merge those of one kind"
        )
    merged = first | {
        name: section
        for name, section in second.items()
        if name not in first or section.get("status") == "ok" or first[name].get("status") != "ok"
    }
    if "train_step" in first and "train_step" in second:
        merged["train_step"] = _united(first["train_step"], second["train_step"])
    return {name: merged[name] for name in gpu.SECTIONS if name in merged}


def without_logs(sections: Sections) -> Sections:
    """The same without the ends of logs in errors: they hold paths of the machine."""
    return {
        name: section | {"error": section["error"].partition("; the log ends:")[0]}
        if "error" in section
        else section
        for name, section in sections.items()
    }


def _united(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    results = [section["result"] for section in (first, second)]
    rows = {_title(row): row for result in results for row in result["rows"]}
    titles = [title for result in results for title in result.get("not_measured", [])]
    order = [setting.title for setting in train_step.GPU]
    result = results[0] | results[1]
    result["rows"] = sorted(rows.values(), key=lambda row: order.index(_title(row)))
    result["rooflines"] = [limits for part in results for limits in part.get("rooflines", [part["roofline"]])]
    result["errors"] = [error for part in results for error in part["errors"]]
    result["not_measured"] = [title for title in dict.fromkeys(titles) if title not in rows]
    succeeded = first.get("status") == second.get("status") == "ok"
    seconds = first.get("seconds", 0.0) + second.get("seconds", 0.0)
    return {"result": result, "seconds": seconds, "status": "ok" if succeeded else "failed"}


def _title(row: dict[str, Any]) -> str:
    return Setting(*(row[field] for field in Setting._fields)).title


def main() -> None:
    """Writes `gpu.json` and `gpu.txt`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results", nargs="+", type=Path, help="gpu.json of each run, in the order of the runs"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    runs = []
    for path in options.results:
        sections = json.loads(path.read_text())["sections"]
        if rows := sections.get("train_step", {}).get("result", {}).get("rows"):
            print(f"{path}: {len(rows)} rows of train_step", flush=True)
            sections["train_step"]["result"] = with_flops(sections["train_step"]["result"])
        runs.append(sections)
    try:
        sections = without_logs(functools.reduce(merge, runs))
    except InputError as error:
        sys.exit(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    atomic.write_json(options.out / "gpu.json", {"sections": sections})
    text = "\n".join(gpu.summary(sections))
    atomic.write_text(options.out / "gpu.txt", text + "\n")
    print(text)


if __name__ == "__main__":
    main()
