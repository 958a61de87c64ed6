"""Folders and command lines that the families of bad files share: films, a cohort, masks to audit."""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
PATIENTS = 20
_SIZE = (24, 20)


def picture(seed: int = 0, size: tuple[int, int] = _SIZE) -> np.ndarray:
    """Return a film without a bone, u8[size]."""
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


@cache
def _network() -> dict[str, bytes]:
    """Return the files of a small network, written by another process: this one forks, and must not start JAX."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "network.safetensors")
        code = "import pathlib, sys; from tests.predict import networks; networks.write(pathlib.Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True)
        return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def predict(folder: Path, *images: str) -> list[str]:
    """Add a good film and a small network to `films`; return the command that segments the folder, or `images`."""
    films = folder / "films"
    films.mkdir(exist_ok=True)
    Image.fromarray(picture()).save(films / "good.png")
    for name, content in _network().items():
        (folder / name).write_bytes(content)
    return [
        *("-m", "kneefair_jax.predict", "--checkpoint", "network.safetensors", "--out", "out", "--images"),
        *(images or ["films"]),
    ]


def cohort(folder: Path, cells: Mapping[str, str] | None = None) -> None:
    """Write films, masks and `metadata.csv` of 20 patients.

    Args:
        folder: where to.
        cells: column -> its cell in row 5, in place of the usual one.
    """
    rows = []
    for name in ("images", "masks"):
        (folder / name).mkdir(exist_ok=True)
    for number in range(PATIENTS):
        mask = np.zeros(_SIZE, np.uint8)
        mask[2 : 9 + number % 3, 3:15], mask[14:20, 3:15] = 1, 2
        Image.fromarray(picture(number)).save(folder / f"images/{number}.png")
        Image.fromarray(mask).save(folder / f"masks/{number}.png")
        row = {"case_id": f"c{number}", "patient_id": f"p{number}", "sex": "fm"[number % 2]}
        rows.append(
            row | {"image": f"images/{number}.png", "mask": f"masks/{number}.png", "spacing_mm": "0.5"}
        )
    rows[3] |= dict(cells or {})
    write_table(folder / "metadata.csv", rows)


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write rows as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def launch(*options: str, mode: str = "check") -> list[str]:
    """Return the command that checks, or trains on, the cohort in the folder; it takes seconds."""
    return [
        str(ROOT / "launch.py"),
        f"--config={ROOT / 'configs/folder.py'}",
        *("--workdir=out", f"--mode={mode}", "--config.data.root=.", "--config.data.structures=femur,tibia"),
        *("--config.data.attributes=('sex',)", "--config.data.size=(16, 16)", "--config.data.workers=0"),
        *("--config.model.widths=(4, 8)", "--config.train.steps=4", "--config.train.batch_size=4"),
        *("--config.check.against=", *options),
    ]


def audit(folder: Path, *options: str) -> list[str]:
    """Return the command that audits `masks`, with itself as prediction, by `metadata.csv`."""
    return [
        *(
            "-m",
            "kneefair_jax.audit",
            "--truth",
            "masks",
            "--pred",
            "model=pred",
            "--metadata",
            "metadata.csv",
        ),
        *("--attributes", "sex", "--labels", "femur=1", "tibia=2", "--draws", "40", "--out", "out", *options),
    ]
