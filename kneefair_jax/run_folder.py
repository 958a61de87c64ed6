"""The folder of one run: which config it belongs to, and in which environment it was made."""

import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from kneefair_jax.errors import InputError

# What may change between two starts of one run: it does not touch training.
FREE = ("report", "select", "data.external")
LIBRARIES = (
    "kneefair_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
)


def check_config(workdir: Path, config: ConfigDict) -> None:
    """Refuses a folder that holds another run.

    Raises:
        InputError: with the fields that differ.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    then, now = flat(json.loads(path.read_text())), flat(json.loads(config.to_json_best_effort()))
    differing = [
        f"{key} is {now.get(key)!r} but was {then.get(key)!r}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key) and not key.startswith(FREE)
    ]
    if differing:
        raise InputError(
            f"{workdir} holds a run of another config ({'; '.join(differing)}); give another --workdir"
        )


def open_run(workdir: Path, config: ConfigDict, cohort: dict[str, Any]) -> None:
    """Writes `config.json` and `environment.json`; call `check_config` first."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", json.loads(config.to_json_best_effort()))
    write_json(workdir / "environment.json", {**environment(), **cohort})


def environment() -> dict[str, Any]:
    """Versions, commit, device and command of this process; nothing of its paths or its user."""
    device = jax.devices()[0]
    return {
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
        "commit": _commit(),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "command": _command(sys.argv),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    items: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            items |= flat(value, f"{prefix}{key}.")
        else:
            items[f"{prefix}{key}"] = value
    return items


def write_json(path: Path, value: Any) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")
    temporary.replace(path)


def _command(argv: Sequence[str]) -> str:
    """The command without its work folder: the same run elsewhere is the same command."""
    kept, skip = [], False
    for word in argv:
        if skip or word.startswith(("--workdir=", "-workdir=")):
            skip = False
        elif word in ("--workdir", "-workdir"):
            skip = True
        else:
            kept.append(word)
    return " ".join(["python", Path(kept[0]).name, *kept[1:]])


def _commit() -> str | None:
    """This checkout's commit, `-dirty` where it has changes; None outside of one."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
