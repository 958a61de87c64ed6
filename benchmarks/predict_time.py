"""How long `kneefair predict` takes for a film of 3000 x 2500 pixels, from DICOM to mask and overlay.

    python -m benchmarks.predict_time [--checkpoint phantom-v1 phantom]

A new process segments one film, with an empty and with a filled compilation cache (of JAX; Python's byte code is kept),
and then several films: the time of each film after the first is the difference over their number. Films are phantoms of
16 bits.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.machine import conditions, user_environment
from kneefair_jax.data import phantom
from kneefair_jax.runtime import atomic

SHAPE = (3000, 2500)
MM = 0.1


def write_film(path: Path, seed: int) -> None:
    """Write a phantom, enlarged to `SHAPE`, as a DICOM file."""
    small = jax.device_get(
        phantom.draw_case(jax.random.key(seed), size=(300, 250), fov_mm=SHAPE[0] * MM).image
    )
    noise = np.random.default_rng(seed).normal(0, 20, SHAPE)
    pixels = np.clip(np.kron(small.astype(float), np.ones((10, 10))) * 16 + noise, 0, 4095)
    film = pydicom.Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = ComputedRadiographyImageStorage
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid()
    film.PatientID, film.Modality, film.StudyInstanceUID = str(seed), "CR", generate_uid()
    film.Rows, film.Columns = SHAPE
    film.SamplesPerPixel, film.PixelRepresentation = 1, 0
    film.PhotometricInterpretation = "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.ImagerPixelSpacing = [MM, MM]
    film.PixelData = pixels.astype(np.uint16).tobytes()
    film.save_as(path, enforce_file_format=True)


def seconds(checkpoint: str, films: list[Path], out: Path, cache: Path) -> float:
    """Wall time of one command in a process of its own."""
    words = ["--checkpoint", checkpoint, "--images", *map(str, films), "--out", str(out)]
    environment = user_environment(
        JAX_COMPILATION_CACHE_DIR=str(cache), JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0"
    )
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "kneefair_jax.predict", *words],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - start


def measure(checkpoint: str, films: list[Path], folder: Path) -> dict[str, float]:
    """Seconds of a network: a new process, cold and warm, and each film after the first."""
    cache = folder / "cache"
    seconds(checkpoint, films[:1], folder / "byte code", folder / "another cache")  # of Python's modules
    cold = seconds(checkpoint, films[:1], folder / "cold", cache)
    warm = seconds(checkpoint, films[:1], folder / "warm", cache)
    seconds(checkpoint, films, folder / "programs", cache)  # for batches of several films
    several = seconds(checkpoint, films, folder / "several", cache)
    return {
        "new process, empty compilation cache": cold,
        "new process, filled compilation cache": warm,
        "a film after the first": (several - warm) / (len(films) - 1),
    }


def main() -> None:
    """Print the times and write them as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", nargs="+", default=["phantom-v1", "phantom"])
    parser.add_argument("--films", type=int, default=11)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "predict_time.json")
    options = parser.parse_args()
    result: dict[str, Any] = {
        **conditions(),
        "load_average": os.getloadavg(),
        "shape": SHAPE,
        "seconds": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        films = [Path(scratch) / f"{number}.dcm" for number in range(options.films)]
        for number, path in enumerate(films):
            write_film(path, number)
        for checkpoint in options.checkpoint:
            folder = Path(scratch) / Path(checkpoint).name
            result["seconds"][checkpoint] = measure(checkpoint, films, folder)
            print(checkpoint, result["seconds"][checkpoint], flush=True)
    atomic.write_json(options.out, result)


if __name__ == "__main__":
    main()
