"""The directory of one run: its config, its data and its environment."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic, output_folder, run_files
from kneefair_jax.safe_text import strip_json_paths, strip_paths

# Fields that may change between two starts of one run: training ignores them, or `check_data` checks their effect.
CHANGEABLE = (
    *("report", "select", "parallel", "check", "train.profile", "train.steps_per_call", "model.remat"),
    *("data.external", "data.external_structures", "data.external_in_front", "data.root", "data.metadata"),
    *("data.store", "data.workers", "data.beam", "data.on_read_error"),
    *("data.allow_similar_ids", "data.orientation", "data.ignore_label"),
)
# Fields that earlier versions did not have, and the value that their runs had.
_ADDED = {"model.stem": "pixel"}
# Files that runs, folds and studies write in their directory.
OUTPUTS = (
    *(".lock", "config.json", "environment.json", "metrics.jsonl", "log.txt", "cases.parquet", "*.npz"),
    *(
        "cohort.csv",
        "excluded*.csv",
        "upweighted.csv",
        "diverged.txt",
        "checkpoints",
        "tensorboard",
        "profile",
    ),
    *("stages", "store", "check", "report", "export", "fold_*", "runs"),
)
# The field of environment.json with the hashes of absolute paths.
_PATHS = "path_sha256"
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
    """Refuse a directory of another run, and one with links or pipes.

    `config.json` contains only the last part of absolute paths, so absolute paths are compared by a hash in
    `environment.json`. A run of an earlier version has no hash; its paths are compared by the last part.

    Raises:
        InputError: with the fields that differ; or `workdir` is a file, or contains a link or a pipe.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file; give a folder, or a new name, as --workdir")
    output_folder.require_regular_files(workdir, OUTPUTS)
    path = workdir / "config.json"
    if not path.exists():
        return
    previous = _ADDED | flatten(strip_json_paths(run_files.read_config(path)))
    current = _ADDED | flatten(public_config(config))
    differing = [
        f"{key} is {current.get(key)!r} but was {previous.get(key)!r}"
        for key in sorted(previous.keys() | current.keys())
        if previous.get(key) != current.get(key) and not key.startswith(CHANGEABLE)
    ]
    paths = _path_digests(config)
    previous_paths = _environment(workdir).get(_PATHS, paths)
    differing += [
        f"{key} is another path with the last part {current[key]!r}"
        for key in sorted(previous_paths.keys() | paths.keys())
        if previous_paths.get(key) != paths.get(key) and previous.get(key) == current.get(key)
    ]
    if differing:
        raise InputError(
            f"{workdir} holds a run of another config ({'; '.join(differing)}); repeat that run's flags, or give "
            "another --workdir"
        )


def has_checkpoint(workdir: Path) -> bool:
    """Return whether a run in or below the directory has a checkpoint to resume from."""
    return any(path.name.isdigit() for path in workdir.glob("**/checkpoints/*"))


def exclusive_lock(workdir: Path) -> AbstractContextManager[None]:
    """Lock a run directory against other processes; the lock ends with the process.

    Raises:
        InputError: another process is at work in it.
    """
    return output_folder.exclusive_lock(workdir, "--workdir", ("report",))


def check_data(workdir: Path, **data: str) -> None:
    """Refuse to resume or to score a run on data other than those of its first start.

    Args:
        workdir: the run directory.
        data: fingerprints by name, as for `open_run`; missing names are not compared.

    Raises:
        InputError: one differs. A changed table splits patients differently: training patients could be tested.
    """
    previous = _environment(workdir).get("data", data)
    if changed := [name for name, value in data.items() if previous.get(name) != value]:
        raise InputError(
            f"{workdir} holds a run on other data (its {' and '.join(changed)} changed since); put the data back, "
            "or give another --workdir"
        )


def table_fingerprint(cases: pd.DataFrame, group: np.ndarray) -> str:
    """Return the SHA-256 of each case's patient, split and group, in the table's order."""
    text = cases[["case_id", "patient_id", "split"]].assign(group=group).to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()


def open_run(workdir: Path, config: ConfigDict, **data: str) -> None:
    """Write `config.json` and, on the first start, `environment.json`; call the checks first.

    Args:
        workdir: the run directory.
        config: the run's config.
        data: fingerprints by name.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    atomic.write_json(workdir / "config.json", public_config(config))
    if not (workdir / "environment.json").exists():
        atomic.write_json(
            workdir / "environment.json", {**environment(), "data": data, _PATHS: _path_digests(config)}
        )


def public_config(config: ConfigDict) -> dict[str, Any]:
    """Return the config as JSON for shared files, with absolute paths, which name people and machines, cut short."""
    values: dict[str, Any] = strip_json_paths(json.loads(config.to_json_best_effort()))
    return values


def _path_digests(config: ConfigDict) -> dict[str, str]:
    """Return a short SHA-256 of each value that `public_config` cuts, by dotted field name, except `CHANGEABLE`."""
    full, short = flatten(json.loads(config.to_json_best_effort())), flatten(public_config(config))
    digests = {}
    for key, value in full.items():
        if value != short[key] and not key.startswith(CHANGEABLE):
            text = (
                os.path.normpath(os.path.expanduser(value)) if isinstance(value, str) else json.dumps(value)
            )
            digests[key] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return digests


def _environment(workdir: Path) -> dict[str, Any]:
    """Return `environment.json` of a run directory; empty if there is none."""
    path = workdir / "environment.json"
    return run_files.read_environment(path) if path.exists() else {}


def environment() -> dict[str, Any]:
    """Return versions, commit, device and command of this process, without absolute paths or user names."""
    device = jax.devices()[0]
    return {
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES}
        | {"python": platform.python_version()},
        "commit": _commit(),
        "device": f"{jax.device_count()} x {device.device_kind}",
        "command": public_command(sys.argv),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested keys: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    items: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            items |= flatten(value, f"{prefix}{key}.")
        else:
            items[f"{prefix}{key}"] = value
    return items


def public_command(argv: Sequence[str]) -> str:
    """Return the command without its `--workdir` and without absolute paths: equal runs have equal commands."""
    words, is_workdir = [], False
    for word in argv:
        if is_workdir or word.startswith(("--workdir=", "-workdir=")):
            is_workdir = False
        elif word in ("--workdir", "-workdir"):
            is_workdir = True
        else:
            # A path may contain an equals sign itself.
            flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
            words.append(flag + equals + _cut_path(value))
    program = Path(words[0]).name
    programs = ["kneefair"] if program in ("kneefair", "__main__.py") else ["python", program]
    return quote([*programs, *words[1:]])


def quote(words: Iterable[str]) -> str:
    """Return a command for a shell; tuples of strings are in double quotes, as users type them."""
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words
    )


def _cut_path(value: str) -> str:
    return Path(value).name if Path(value).expanduser().is_absolute() else strip_paths(value)


def _commit() -> str | None:
    """Return this checkout's commit, with `-dirty` if it has changes; None outside a checkout."""
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


def today() -> str:
    """Return the date in UTC, `2026-11-26`; that of `SOURCE_DATE_EPOCH` where it is set, so that builds repeat."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    zone = datetime.UTC
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), zone) if epoch.isdigit() else datetime.datetime.now(zone)
    )
    return moment.date().isoformat()


def file_digests(paths: Iterable[object]) -> dict[str, str]:
    """Return file name -> SHA-256 of each path that is a file; folders and tables in memory are omitted."""
    digests = {}
    for path in paths:
        if isinstance(path, str | Path) and Path(path).is_file():
            with Path(path).open("rb") as file:
                digests[Path(path).name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
