"""The reading of cases as an Apache Beam transform: on this machine, or on Dataflow, Flink or Spark.

It is the only module that imports Beam, which needs an environment of its own (`constraints-beam.txt`). Every worker
must see the source's files, and the store's folder, under the paths that the command names, and run as the user of the
command: nobody else may read or write the scratch folder.
"""

import json
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners import create_runner

from kneefair_jax.data.store import checked_pickle
from kneefair_jax.data.store.chunks import Files, Outcome, Read, outcome
from kneefair_jax.errors import InputError

_OUTCOMES, _READ = "outcomes", "read.pickle"


class ReadCases(beam.PTransform):
    """Rows 0, ..., rows - 1 of a source -> (row, arrays) of those that can be read, in no order.

    What became of every row is written beside: lines of JSON in files below `folder`, for `outcomes`.
    """

    def __init__(self, read: Read, rows: int, folder: Path, chunk: int, files: Files | None = None):
        """Reads `chunk` rows at a time; `read` is pickled into `folder`, as a job must not be of 10 MB or more."""
        super().__init__()
        self._read = read, files
        self._spans = [(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]
        self._folder = folder

    def expand(self, pipeline: Any) -> Any:
        """Beam's part of it."""
        path = self._folder / _READ
        digest = checked_pickle.write(path, self._read)
        read = (
            pipeline
            | beam.Create(self._spans)
            | beam.Reshuffle()  # or one worker would be given all of it
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
        self._read, self._files = checked_pickle.read(self._path, self._sha256)

    def process(self, span: tuple[int, int]) -> Iterator[Any]:
        rows = range(*span)
        for row, result in zip(rows, self._read(rows), strict=True):
            of_row = outcome(row, result, self._files)
            yield beam.pvalue.TaggedOutput(_OUTCOMES, of_row)
            if not (isinstance(result, InputError) or of_row.why):
                yield row, result.arrays()


def outcomes(folder: Path) -> Iterable[Outcome]:
    """What `ReadCases` wrote, in the order of the rows."""
    lines = [line for path in folder.glob(f"{_OUTCOMES}*") for line in path.read_text().splitlines()]
    return sorted(Outcome(*json.loads(line)) for line in lines)


def options(flags: str) -> PipelineOptions:
    """Beam's options from the flags that its own programs take, `--runner=DirectRunner --direct_num_workers=2`.

    Raises:
        InputError: there is no such runner, or a quote is left open.
    """
    try:
        made = PipelineOptions(shlex.split(flags))
        create_runner(made.view_as(StandardOptions).runner or StandardOptions.DEFAULT_RUNNER)
    except (ValueError, ImportError) as error:
        raise InputError(f"config.data.beam={flags!r}: {error}") from error
    return made
