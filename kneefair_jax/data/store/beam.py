"""Reads cases by an Apache Beam transform, on this machine or on Dataflow, Flink or Spark.

Only this module imports Beam, which needs a separate environment (`constraints-beam.txt`). Every worker must see the
source's files and the store's folder under the paths in the command, and run as the command's user: no other user may
read or write the scratch folder.
"""

import json
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners import create_runner

from kneefair_jax.data.source import Files
from kneefair_jax.data.store.chunks import Outcome, Read, outcome, read_pickle, write_pickle
from kneefair_jax.errors import InputError

_OUTCOMES, _READ = "outcomes", "read.pickle"


class ReadCases(beam.PTransform):
    """Yields (row, arrays) for the readable rows among 0, ..., rows - 1 of a source, in no order.

    The outcome of every row is written as a line of JSON to files below `folder`, which `outcomes` reads.
    """

    def __init__(self, read: Read, rows: int, folder: Path, chunk: int, files: Files | None = None):
        """Reads `chunk` rows at a time; `read` is pickled into `folder`, since a job must be smaller than 10 MB."""
        super().__init__()
        self._read = read, files
        self._spans = [(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]
        self._folder = folder

    def expand(self, pipeline: Any) -> Any:
        """Add the steps to a pipeline."""
        path = self._folder / _READ
        digest = write_pickle(path, self._read)
        read = (
            pipeline
            | beam.Create(self._spans)
            | beam.Reshuffle()  # otherwise one worker would read all rows
            | beam.ParDo(_Read(path, digest)).with_outputs(_OUTCOMES, main="records")
        )
        _ = read[_OUTCOMES] | beam.Map(json.dumps) | beam.io.WriteToText(str(self._folder / _OUTCOMES))
        return read.records


class _Read(beam.DoFn):
    def __init__(self, path: Path, sha256: str):
        self._path = path
        self._sha256 = sha256

    def setup(self) -> None:
        self._read: Read
        self._files: Files | None
        self._read, self._files = read_pickle(self._path, self._sha256)

    def process(self, span: tuple[int, int]) -> Iterator[Any]:
        rows = range(*span)
        for row, result in zip(rows, self._read(rows), strict=True):
            row_outcome = outcome(row, result, self._files)
            yield beam.pvalue.TaggedOutput(_OUTCOMES, row_outcome)
            if not (isinstance(result, InputError) or row_outcome.why):
                yield row, result.arrays()


def outcomes(folder: Path) -> Iterable[Outcome]:
    """Return the outcomes that `ReadCases` wrote, in the order of the rows."""
    lines = [line for path in folder.glob(f"{_OUTCOMES}*") for line in path.read_text().splitlines()]
    return sorted(Outcome(*json.loads(line)) for line in lines)


def options(flags: str) -> PipelineOptions:
    """Return Beam's options by the flags of Beam's programs, `--runner=DirectRunner --direct_num_workers=2`.

    Raises:
        InputError: the runner does not exist, or a quotation mark is not closed.
    """
    try:
        pipeline_options = PipelineOptions(shlex.split(flags))
        create_runner(pipeline_options.view_as(StandardOptions).runner or StandardOptions.DEFAULT_RUNNER)
    except (ValueError, ImportError) as error:
        raise InputError(f"config.data.beam={flags!r}: {error}") from error
    return pipeline_options
