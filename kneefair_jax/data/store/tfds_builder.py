"""The TFDS builder of a store: what a record holds, and how records are packed into array_record."""

import contextlib
import io
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

SPLIT = "cases"


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
        store.download_and_prepare(download_dir=scratch, file_format="array_record", download_config=config)
