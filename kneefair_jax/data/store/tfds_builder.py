"""The TFDS builder of a store: what a record holds, how records are packed into array_record, and how they are read.

TFDS can read a dataset by what its own files say of it, and imports the Python modules that those name. A store may
have been made by somebody else, so it is read by this module's features alone, and refused where its files differ.
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
_SHARDS = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"  # names of the record files: none outside the store
_INFO = Table({"splits": ListOf(Table(other_fields=Anything()), 1, 1)}, Anything())
_REMEDY = "delete this store's folder, and the cases are prepared again"


class CaseStore(tfds.core.GeneratorBasedBuilder):
    """Cases on the working grid, in the order of the cohort table: record k is the k-th case that can be read.

    Splits, groups and sampling are not baked in: they select rows, so one store serves every fold, every choice of
    attributes and every mitigation.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.1.0": "image, label, spacing; digest by record"}

    def __init__(self, *, name: str, grid: tuple[int, int, int], data_dir: Path, records: Any):
        """A store of that name; `records` are (row, arrays) in order, or a Beam transform that makes them."""
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


def pack(store: CaseStore, scratch: Path, **how: Any) -> None:
    """Writes a store beside its folder, which then appears whole.

    Args:
        store: with its records.
        scratch: a folder for what TFDS leaves lying.
        how: fields of `tfds.download.DownloadConfig`, such as `beam_options`.
    """
    tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(compute_stats=tfds.download.ComputeStatsMode.SKIP, **how)
    # TFDS announces a "download", which this is not, and makes a folder for it.
    with contextlib.redirect_stdout(io.StringIO()):
        store.download_and_prepare(download_dir=scratch, file_format=_FORMAT, download_config=config)


def open_store(name: str, grid: tuple[int, int, int], data_dir: Path) -> Any:
    """The records of a finished store, to be read at random; nothing that its files name is imported.

    Args:
        name: of the store.
        grid: (H, W, C) of its cases.
        data_dir: the folder of all stores.

    Returns:
        A sequence of `{"image", "label", "spacing"}`.

    Raises:
        InputError: `features.json` or `dataset_info.json` is not what `CaseStore` writes.
    """
    folder = data_dir / CaseStore.name / name / str(CaseStore.VERSION)
    _require_info(folder, name)
    with _without_warnings():
        store = CaseStore(name=name, grid=grid, data_dir=data_dir, records=None)
        assert store.info.features is not None
        _require_same(folder / "features.json", json_format.MessageToDict(store.info.features.to_proto()))
        return store.as_data_source(SPLIT)


def _require_info(folder: Path, name: str) -> None:
    """Refuses a `dataset_info.json` of other records, or of record files elsewhere."""
    path = folder / "dataset_info.json"
    info = checked_files.read_json(path, _INFO, _REMEDY)
    kept = {key: info.get(key) for key in ("name", "version", "configName", "fileFormat")}
    splits = [{key: split.get(key) for key in ("name", "filepathTemplate")} for split in info["splits"]]
    ours = {
        "name": CaseStore.name,
        "version": str(CaseStore.VERSION),
        "configName": name,
        "fileFormat": _FORMAT,
    }
    if kept != ours or splits != [{"name": SPLIT, "filepathTemplate": _SHARDS}]:
        raise _foreign(path)


def _require_same(path: Path, expected: dict[str, Any]) -> None:
    if checked_files.read_json(path, Table(other_fields=Anything()), _REMEDY) != expected:
        raise _foreign(path)


def _foreign(path: Path) -> InputError:
    return InputError(
        f"{path} is not what this version writes, so the store is not opened; delete the folder {path.parent}, and the "
        "cases are prepared again"
    )


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """TFDS warns of a configuration that it does not know, which every store has."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
