"""The same files as films and masks of a cohort to check or to train on, and as reference masks of an audit."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.hostile_files import PATIENTS, audit, cohort, launch
from benchmarks.hostile_inputs import Kind, image_files
from benchmarks.hostile_inputs.image_files import Write

IN_COHORTS: dict[str, tuple[str, Write]] = {
    "pipe": ("a.png", lambda path: os.mkfifo(path)),
    "link to /dev/zero": ("a.npy", lambda path: path.symlink_to("/dev/zero")),
    "sparse NPY of 6.6 GB": image_files.FILMS["sparse NPY of 6.6 GB"],
    "PNG bomb": image_files.FILMS["PNG of 30,000 x 30,000 pixels"],
    "NIfTI bomb": image_files.FILMS["NIfTI of 30,000 volumes, 2.3 MB"],
    "deflated DICOM bomb": image_files.FILMS["deflated DICOM, 1.5 GiB behind a small picture"],
    "DICOM spacing with a decimal comma": image_files.FILMS["DICOM spacing with a decimal comma"],
    "name of 300 characters": (f"{'a' * 300}.png", lambda path: None),
}


def _check(column: str, name: str, write: Write, *options: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        cohort(folder, {column: f"images/{name}"})
        write(folder / "images" / name)
        return launch("--config.data.on_read_error=skip", *options)

    return make


def _audit(name: str, write: Write) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        cohort(folder, {"mask": f"masks/{name}"})
        write(folder / "masks" / name)
        (folder / "pred").mkdir()
        for number in range(PATIENTS):
            shutil.copy(folder / f"masks/{number}.png", folder / f"pred/c{number}.png")
        return audit(folder)

    return make


def _kinds() -> Iterator[Kind]:
    for kind, (name, write) in IN_COHORTS.items():
        yield Kind(f"check, film: {kind}", _check("image", name, write), "works", "row 5")
        yield Kind(f"check, mask: {kind}", _check("mask", name, write), "works", "row 5")
        # A name that no file can have is that of an absent mask, which an audit names by case.
        expected = "c3" if len(name) > 255 else "row 5"
        yield Kind(f"audit, mask: {kind}", _audit(name, write), "refused", expected)


KINDS = tuple(_kinds())
