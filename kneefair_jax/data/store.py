"""A source of cases is prepared once into array_record by TFDS, then read at random; no TensorFlow involved."""

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from kneefair_jax.data.source import Source
from kneefair_jax.errors import InputError

SPLIT = "cases"
DIGEST_FILE = "content.json"


class CaseStore(tfds.core.GeneratorBasedBuilder):
    """Cases on the working grid, in the order of the cohort table: record k is the table's row k.

    Splits, groups and sampling are not baked in: they select rows, so one store serves every fold, every choice of
    attributes and every mitigation.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "image, label, spacing"}

    def __init__(self, *, source: Source, grid: tuple[int, int, int], data_dir: Path):
        """Names the store after the settings of its source."""
        self._source = source
        self._grid = grid
        self.digest = hashlib.sha256()
        config = tfds.core.BuilderConfig(name=fingerprint(source, grid), description="one prepared source")
        super().__init__(data_dir=data_dir, config=config, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        tensor = tfds.features.Tensor
        return tfds.core.DatasetInfo(
            builder=self,
            description="Radiographs and label maps on the working grid.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tensor(shape=self._grid, dtype=np.uint8, encoding="zlib"),
                    "label": tensor(shape=self._grid[:2], dtype=np.uint8, encoding="zlib"),
                    "spacing": tensor(shape=(2,), dtype=np.float32),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for row, example in enumerate(self._source.examples()):
            for array in example:
                self.digest.update(np.ascontiguousarray(array).tobytes())
            yield row, example._asdict()


def fingerprint(source: Source, grid: tuple[int, int, int]) -> str:
    """Sixteen hex digits that change with anything that changes a stored array."""
    text = json.dumps([source.settings, grid], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check(source: Source, grid: tuple[int, int, int], directory: Path) -> None:
    """Reads every pixel of a source that is yet to be prepared; nothing is written.

    Raises:
        InputError: a case's arrays cannot be used.
    """
    if not (_folder(source, grid, directory) / DIGEST_FILE).exists():
        source.check()


def _folder(source: Source, grid: tuple[int, int, int], directory: Path) -> Path:
    return directory / CaseStore.name / fingerprint(source, grid) / str(CaseStore.VERSION)


class Cases:
    """The prepared cases, by row: `cases[k]` -> `{"image", "label", "spacing"}`.

    Attributes:
        digest: SHA-256 of every stored array; the same on any machine, for the same pixels.
    """

    def __init__(self, records: Any, digest: str):
        self._records = records
        self.digest = digest

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        return self._records[int(row)]


def prepare(source: Source, grid: tuple[int, int, int], directory: Path) -> Cases:
    """Opens the store of a source on a grid (H, W, C) below `directory`, and writes it first unless it is there.

    TFDS writes beside the final folder and renames it, and the digest is written last, so an interrupted preparation
    leaves nothing that a later one would take for whole. Call `check` first.

    Raises:
        InputError: the store on disk is damaged.
    """
    final = _folder(source, grid, directory)
    if not (final / DIGEST_FILE).exists():
        shutil.rmtree(final, ignore_errors=True)
        tfds.disable_progress_bar()
        # TFDS announces a "download", which this is not.
        with contextlib.redirect_stdout(io.StringIO()):
            builder = CaseStore(source=source, grid=grid, data_dir=directory)
            builder.download_and_prepare(
                file_format="array_record",
                download_config=tfds.download.DownloadConfig(
                    compute_stats=tfds.download.ComputeStatsMode.SKIP
                ),
            )
        # Last: a store without this file is not finished.
        content = {"sha256": builder.digest.hexdigest(), "cases": len(source.cases)}
        (final / DIGEST_FILE).write_text(json.dumps(content))
    content = json.loads((final / DIGEST_FILE).read_text())
    records = tfds.builder_from_directory(final).as_data_source(SPLIT)
    if len(records) != len(source.cases):
        raise InputError(f"{final}: {len(records)} records for {len(source.cases)} cases; delete this folder")
    return Cases(records, content["sha256"])
