"""Describe the machine that a benchmark runs on."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "tensorflow-datasets",
    "numpy",
    "pandas",
    "torch",
)


def hardware() -> dict[str, Any]:
    """Processor, cores and memory."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory),
    }


def versions() -> dict[str, str | None]:
    """Of Python and of libraries; None of one that is not installed."""

    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def conditions() -> dict[str, Any]:
    """Hardware, versions and time (UTC), for the head of a benchmark's JSON."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"hardware": hardware(), "versions": versions(), "started": now}


def user_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a user's process: this one's, where Python keeps the byte code of modules.

    Without it (`PYTHONDONTWRITEBYTECODE`, as in some containers) each process compiles all modules again, 4 s.
    """
    return {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    } | variables
