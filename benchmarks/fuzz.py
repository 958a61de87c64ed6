"""Mutate valid files and read them: `make fuzz`, or `python -m benchmarks.fuzz --minutes 10`.

Hypothesis draws a valid file and its mutations (bytes set, cut, inserted and repeated; lengths and dimensions set to
extreme integers; numbers and words of text replaced), and shrinks what fails. A reader may return or raise
`InputError`. Anything else, more than `SECONDS` or more than `MEMORY` for one file is a failure.
"""

import argparse
import contextlib
import gzip
import io
import json
import logging
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import nibabel
import numpy as np
import pandas as pd
import tifffile
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from PIL import Image

from kneefair_jax import models, weights
from kneefair_jax.audit import score_table
from kneefair_jax.audit.options import CaseOptions
from kneefair_jax.data import metadata, readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import films
from kneefair_jax.runtime import run_directory
from tests.hostile.films import dicom

SECONDS = 10
MEMORY = 2 << 30
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 30_000, 1_000_000)
_WORDS = (
    "",
    "-1",
    "0",
    "1e400",
    "nan",
    "null",
    "[]",
    "{}",
    '""',
    "true",
    "12000",
    "0,5",
    "'",
    '"',
    "\x00",
    "é",
    "=1+1",
)
_TOKEN = re.compile(r"-?\d+(?:\.\d+)?|\"[^\"]*\"|[A-Za-z_]+|[,;:\[\]{}\n]")


class TimeoutInterrupt(BaseException):
    """A reader took longer than `SECONDS`; not an `Exception`, so that no reader takes it for a damaged file."""


class Target(NamedTuple):
    """What reads a file.

    Attributes:
        name: for messages.
        files: name -> content of valid files.
        read: reads the file at a path.
        companions: name -> content of files that lie beside it.
    """

    name: str
    files: Mapping[str, bytes]
    read: Callable[[Path], object]
    companions: Mapping[str, bytes] = {}


def targets() -> list[Target]:
    """Return all targets, with files made in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, masks = _images(folder), _masks(folder)
        network, description = _network(folder)
    tables = {"metadata.csv": _METADATA.encode(), "tabs.csv": _METADATA.replace(",", "\t").encode("utf-16")}
    scores = {"scores.csv": _SCORES.encode(), "scores.parquet": _parquet(_SCORES)}
    config = json.dumps({"data": {"size": [32, 32]}, "seed": 0}).encode()
    environment = json.dumps(run_directory.environment() | {"data": {"table": "0" * 64}}).encode()
    return [
        Target("radiographs", images, readers.read_radiograph),
        Target("masks", masks, readers.read_label_file),
        Target("films", images, films.read),
        Target("metadata", tables, metadata.read),
        Target(
            "scores",
            scores,
            lambda path: score_table.read(path, None, ["sex", "age"], CaseOptions({"age": [50]})),
        ),
        Target(
            "description of a network",
            {"w.json": description},
            lambda path: weights.load(path.with_name("w.safetensors")),
            {"w.safetensors": network},
        ),
        Target(
            "tensors of a network",
            {"w.safetensors": network},
            lambda path: weights.load_by_group(path.parent),
            {"w.json": description},
        ),
        Target("config of a run", {"config.json": config}, _check_run, {"environment.json": environment}),
        Target(
            "environment of a run", {"environment.json": environment}, _check_run, {"config.json": config}
        ),
    ]


def fuzz(target: Target, number: int, examples: int) -> None:
    """Read mutated files of a target.

    Args:
        target: what reads them.
        number: seed of hypothesis.
        examples: files.

    Raises:
        Exception: what a reader raised, with the smallest example of it in its notes.
    """

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(sorted(target.files)), st.lists(_MUTATIONS, min_size=1, max_size=4))
    def check(name: str, mutations: list[tuple[str, float, int]]) -> None:
        content = target.files[name]
        for mutation in mutations:
            content = mutated(content, mutation)
        with tempfile.TemporaryDirectory() as folder:
            for companion, original in target.companions.items():
                (Path(folder) / companion).write_bytes(original)
            path = Path(folder) / name
            path.write_bytes(content)
            with _time_limit(), warnings.catch_warnings(), contextlib.suppress(InputError):
                warnings.simplefilter("ignore")
                target.read(path)

    check()


def mutated(content: bytes, mutation: tuple[str, float, int]) -> bytes:
    """Return the content after one mutation: its kind, its place as a share of the length, and a choice."""
    kind, share, choice = mutation
    if content[:2] == b"\x1f\x8b" and kind != "cut":  # below the compression, where it means something
        with contextlib.suppress(EOFError, OSError, zlib.error):  # it was cut, or damaged
            return gzip.compress(mutated(gzip.decompress(content), mutation), mtime=0)
    if kind == "word":
        text = content.decode("latin-1")
        tokens = list(_TOKEN.finditer(text))
        if not tokens:
            return content
        token = tokens[min(int(share * len(tokens)), len(tokens) - 1)]
        return (text[: token.start()] + _WORDS[choice % len(_WORDS)] + text[token.end() :]).encode(
            "latin-1", "replace"
        )
    # Headers are at the start, and hold what can go wrong: half of the places lie in the first 512 bytes.
    place = int(share * 2 * min(len(content), 512)) if share < 0.5 else int((2 * share - 1) * len(content))
    if kind == "cut":
        return content[:place]
    if kind == "byte":
        return content[:place] + bytes([choice % 256]) + content[place + 1 :]
    if kind == "insert":
        return content[:place] + bytes([choice % 256]) * (1 + choice % 50) + content[place:]
    if kind == "repeat":
        return content[:place] + content[place : place + 64] * (1 + choice % 200) + content[place:]
    value, order = _EXTREMES[choice % len(_EXTREMES)], "little" if choice % 2 else "big"
    size = 4 if choice % 3 else 2
    return content[:place] + (value % 256**size).to_bytes(size, order) + content[place + size :]


_MUTATIONS = st.tuples(
    st.sampled_from(("byte", "cut", "insert", "integer", "repeat", "word")),
    st.floats(0, 1, exclude_max=True),
    st.integers(0, 999),
)


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise TimeoutInterrupt(f"more than {SECONDS} s")

    previous_handler = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)


def _images(folder: Path) -> dict[str, bytes]:
    pixels = (np.arange(20 * 24).reshape(20, 24) % 251).astype(np.uint8)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(pixels).save(folder / name)
    Image.fromarray(pixels.astype(np.uint16) * 257).save(folder / "deep.png")
    tifffile.imwrite(folder / "a.tif", pixels, compression="zlib")
    np.save(folder / "a.npy", pixels.astype(np.float32))
    nibabel.save(nibabel.Nifti1Image(pixels[..., None].astype(np.int16), np.eye(4)), folder / "a.nii.gz")
    dicom(folder / "a.dcm", pixels.astype(np.uint16), PixelSpacing=[0.2, 0.2])
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _masks(folder: Path) -> dict[str, bytes]:
    labels = np.zeros((12, 16), np.uint8)
    labels[2:6, 3:9], labels[7:11, 3:9] = 1, 2
    palette = Image.fromarray(labels)
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    Image.fromarray(labels).save(folder / "m.png")
    palette.save(folder / "palette.png")
    tifffile.imwrite(folder / "m.tif", labels)
    np.save(folder / "m.npy", labels)
    nibabel.save(nibabel.Nifti1Image(labels[..., None], np.eye(4)), folder / "m.nii")
    names = ("m.png", "palette.png", "m.tif", "m.npy", "m.nii")
    return {name: (folder / name).read_bytes() for name in names}


def _network(folder: Path) -> tuple[bytes, bytes]:
    network = {"name": "unet", "widths": [2, 4], "norm": "group"}
    image = jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)
    shapes = jax.eval_shape(models.create(network, classes=3).init, jax.random.key(0), image)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    about = {"network": network, "structures": ["femur", "tibia"], "grid": [8, 8, 1], "group": None}
    path = folder / "w.safetensors"
    weights.save_network(path, variables, about)
    return path.read_bytes(), path.with_suffix(".json").read_bytes()


def _check_run(path: Path) -> None:
    run_directory.check_config(path.parent, ConfigDict({"data": {"size": [32, 32]}, "seed": 0}))
    run_directory.check_data(path.parent, table="0" * 64)


def _parquet(text: str) -> bytes:
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(text)).to_parquet(buffer)
    return buffer.getvalue()


_METADATA = "case_id,patient_id,image,mask,sex,age\n" + "".join(
    f"c{k},p{k // 2},images/{k}.png,masks/{k}.png,{'fm'[k // 2 % 2]},{40 + k}\n" for k in range(8)
)
_SCORES = "case_id,patient_id,sex,age,structure,dice\n" + "".join(
    f"c{k},p{k},{'fm'[k % 2]},{40 + k},{name},0.9{k}\n" for k in range(8) for name in ("femur", "tibia")
)


def main() -> int:
    """Fuzz all targets in turn until the time is over; return 1 where one fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--examples", type=int, default=300, help="files of one target in one turn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    all_targets = targets()
    logging.getLogger("nibabel").setLevel(logging.CRITICAL)
    used = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    end, failed, files, number = time.monotonic() + 60 * options.minutes, [], 0, options.seed
    while time.monotonic() < end:
        for target in all_targets:
            if target.name in failed:
                continue
            try:
                fuzz(target, number, options.examples)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                failed.append(target.name)
                print(f"failed: {target.name}, seed {number}")
                traceback.print_exception(error, file=sys.stdout)
            files += options.examples
        number += 1
        print(f"{files:,} files, {max(end - time.monotonic(), 0) / 60:.1f} minutes left", flush=True)
        if len(failed) == len(all_targets):
            break
    print(f"{files:,} files of {len(all_targets)} targets, failed: {', '.join(failed) or 'none'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
