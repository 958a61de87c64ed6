"""The TFDS builder of a store: the content of a record, and how records are packed as array_record and read.

TFDS can read a dataset by the description in its files, and imports the Python modules that these name. A store may
come from another user, so it is read by this module's features only, and refused if its files differ.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from google.protobuf import json_format

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import checked_files
from kneefair_jax.runtime.schema import Anything, ListOf, Table

SPLIT = "cases"
_FORMAT = "array_record"
_SHARDS = (
    "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"  # names of the record files, all in the store's folder
)
_INFO = Table({"splits": ListOf(Table(other_fields=Anything()), 1, 1)}, Anything())
_REMEDY = "delete this store's folder; the cases are then prepared again"


class CaseStore(tfds.core.GeneratorBasedBuilder):
    """Cases at working resolution in the order of the cohort table: record k is the k-th readable case.

    Splits, groups and sampling are not stored: they select rows, so one store serves every fold, every choice of
    attributes and every mitigation.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.1.0": "image, label, spacing; digest by record"}

    def __init__(self, *, name: str, grid: tuple[int, int, int], data_dir: Path, records: Any):
        """Creates a store's builder; `records` are (row, arrays) in order, or a Beam transform that yields them."""
        self._grid = grid
        self._records = records
        config = tfds.core.BuilderConfig(name=name, description="one prepared source")
        super().__init__(data_dir=data_dir, config=config, file_format=_FORMAT)

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

    def _generate_examples(self) -> Any:
        return self._records


def pack(store: CaseStore, scratch: Path, **options: Any) -> None:
    """Write a store to a temporary folder, which TFDS then renames.

    Args:
        store: with its records.
        scratch: a folder for TFDS's temporary files.
        options: fields of `tfds.download.DownloadConfig`, such as `beam_options`.
    """
    tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP, **options)
    # TFDS announces a "download" that does not take place, and creates a folder for it.
    with contextlib.redirect_stdout(io.StringIO()):
        store.download_and_prepare(download_dir=scratch, file_format=_FORMAT, download_config=config)


def open_store(name: str, grid: tuple[int, int, int], data_dir: Path) -> Any:
    """Return the records of a complete store, for random access; no module that its files name is imported.

    Args:
        name: of the store.
        grid: (H, W, C) of its cases.
        data_dir: folder of all stores.

    Returns:
        A sequence of `{"image", "label", "spacing"}`.

    Raises:
        InputError: `features.json` or `dataset_info.json` differs from what `CaseStore` writes.
    """
    folder = data_dir / CaseStore.name / name / str(CaseStore.VERSION)
    _require_info(folder, name)
    with _without_warnings():
        store = CaseStore(name=name, grid=grid, data_dir=data_dir, records=None)
        assert store.info.features is not None
        _require_content(folder / "features.json", json_format.MessageToDict(store.info.features.to_proto()))
        return store.as_data_source(SPLIT)


def _require_info(folder: Path, name: str) -> None:
    """Refuse a `dataset_info.json` of other records, or of record files outside the folder."""
    path = folder / "dataset_info.json"
    info = checked_files.read_json(path, _INFO, _REMEDY)
    actual = {key: info.get(key) for key in ("name", "version", "configName", "fileFormat")}
    splits = [{key: split.get(key) for key in ("name", "filepathTemplate")} for split in info["splits"]]
    expected = {
        "name": CaseStore.name,
        "version": str(CaseStore.VERSION),
        "configName": name,
        "fileFormat": _FORMAT,
    }
    if actual != expected or splits != [{"name": SPLIT, "filepathTemplate": _SHARDS}]:
        raise _mismatch(path)


def _require_content(path: Path, expected: dict[str, Any]) -> None:
    if checked_files.read_json(path, Table(other_fields=Anything()), _REMEDY) != expected:
        raise _mismatch(path)


def _mismatch(path: Path) -> InputError:
    return InputError(
        f"{path} differs from what this version writes, so the store is not opened; delete the folder {path.parent}; "
        "the cases are then prepared again"
    )


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence TFDS's warning about an unregistered configuration, which every store has."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
