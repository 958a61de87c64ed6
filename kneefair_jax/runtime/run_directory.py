"""The folder of one run: which config it belongs to, and in which environment it was made."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
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

# What may change between two starts of one run: it does not touch training, or `check_data` sees what it changes.
CHANGEABLE = (
    *("report", "select", "parallel", "check", "train.profile", "model.remat"),
    *("data.external", "data.external_structures", "data.external_in_front", "data.root", "data.metadata"),
    *("data.store", "data.workers", "data.beam", "data.on_read_error"),
    *("data.allow_similar_ids", "data.orientation", "data.ignore_label"),
)
# What runs, folds and studies write in their folder.
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
# The field of environment.json with the hashes of whole paths.
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
    """Refuses a folder that holds another run, or that leads elsewhere.

    The folder's `config.json` holds the last part of absolute paths alone, so whole paths are compared by a hash that
    `environment.json` holds; a run of an earlier version has none, and its paths are compared by the last part.

    Raises:
        InputError: with the fields that differ; or `workdir` is a file, or holds a link or a pipe.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"{workdir} is a file; give a folder, or a new name, as --workdir")
    output_folder.require_regular_files(workdir, OUTPUTS)
    path = workdir / "config.json"
    if not path.exists():
        return
    then, now = flatten(strip_json_paths(run_files.read_config(path))), flatten(public_config(config))
    differing = [
        f"{key} is {now.get(key)!r} but was {then.get(key)!r}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key) and not key.startswith(CHANGEABLE)
    ]
    paths = _path_digests(config)
    known = _environment(workdir).get(_PATHS, paths)
    differing += [
        f"{key} is another path with the last part {now[key]!r}"
        for key in sorted(known.keys() | paths.keys())
        if known.get(key) != paths.get(key) and then.get(key) == now.get(key)
    ]
    if differing:
        raise InputError(
            f"{workdir} holds a run of another config ({'; '.join(differing)}); repeat that run's flags, or give "
            "another --workdir"
        )


def has_checkpoint(workdir: Path) -> bool:
    """Whether a run in the folder, or below it, has a checkpoint to go on from."""
    return any(path.name.isdigit() for path in workdir.glob("**/checkpoints/*"))


def exclusive_lock(workdir: Path) -> AbstractContextManager[None]:
    """Keeps other processes out of a run's folder; ends with the process, however that ends.

    Raises:
        InputError: another process is at work in it.
    """
    return output_folder.exclusive_lock(workdir, "--workdir", ("report",))


def check_data(workdir: Path, **data: str) -> None:
    """Refuses to go on with, or to score, a run on other data than it was started on.

    Args:
        workdir: the run's folder.
        data: fingerprints by name, as given to `open_run`; names that are left out are not compared.

    Raises:
        InputError: one differs. A changed table deals patients anew: those trained on could be tested.
    """
    then = _environment(workdir).get("data", data)
    if changed := [name for name, value in data.items() if then.get(name) != value]:
        raise InputError(
            f"{workdir} holds a run on other data (its {' and '.join(changed)} changed since); put the data back, "
            "or give another --workdir"
        )


def table_fingerprint(cases: pd.DataFrame, group: np.ndarray) -> str:
    """SHA-256 of which case is whose, in which split and which group, in the table's order."""
    text = cases[["case_id", "patient_id", "split"]].assign(group=group).to_csv(index=False)
    return hashlib.sha256(text.encode()).hexdigest()


def open_run(workdir: Path, config: ConfigDict, **data: str) -> None:
    """Writes `config.json` and, on the first start, `environment.json`; call the checks first.

    Args:
        workdir: the run's folder.
        config: of the run.
        data: fingerprints by name.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    atomic.write_json(workdir / "config.json", public_config(config))
    if not (workdir / "environment.json").exists():
        atomic.write_json(
            workdir / "environment.json", {**environment(), "data": data, _PATHS: _path_digests(config)}
        )


def public_config(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON for files that are shared: absolute paths, which name people and machines, cut short."""
    return strip_json_paths(json.loads(config.to_json_best_effort()))


def _path_digests(config: ConfigDict) -> dict[str, str]:
    """Return a short SHA-256 of each value that `public` shortens, by the dotted name of its field, except `FREE`."""
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
    """Return `environment.json` of a folder; empty where there is none."""
    path = workdir / "environment.json"
    return run_files.read_environment(path) if path.exists() else {}


def environment() -> dict[str, Any]:
    """Versions, commit, device and command of this process; nothing of its paths or its user."""
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
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`."""
    items: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            items |= flatten(value, f"{prefix}{key}.")
        else:
            items[f"{prefix}{key}"] = value
    return items


def public_command(argv: Sequence[str]) -> str:
    """The command without its work folder, so that the same run elsewhere has the same; no absolute path."""
    kept, skip = [], False
    for word in argv:
        if skip or word.startswith(("--workdir=", "-workdir=")):
            skip = False
        elif word in ("--workdir", "-workdir"):
            skip = True
        else:
            # A path may hold an equals sign itself.
            flag, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
            kept.append(flag + equals + _cut(value))
    return " ".join(map(_quoted, ["python", Path(kept[0]).name, *kept[1:]]))


def _quoted(word: str) -> str:
    """As a shell takes it; tuples of strings in double quotes, as a person types them."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _cut(value: str) -> str:
    return Path(value).name if Path(value).expanduser().is_absolute() else strip_paths(value)


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
