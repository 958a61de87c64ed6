"""The records of a training: `metrics.jsonl` and TensorBoard, progress lines, traces of its steps."""

import json
import logging
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

from kneefair_jax.errors import InputError, describe
from kneefair_jax.runtime import atomic, distributed
from kneefair_jax.runtime.progress import duration
from kneefair_jax.runtime.schema import Anything, Integer, Number, Omittable, Table, find_fault

logger = logging.getLogger(__name__)

_VALIDATION = Omittable(Table({"overall": Number(-10, 10)}, Anything()))
_RECORD = Table({"step": Integer(0, 10**9), "validation": _VALIDATION}, Anything())
_REMEDY = "put a copy of it back, or remove this line and those after it"
_TRACES = (".xplane.pb", ".trace.json.gz")  # endings of the profiler's files


class MetricWriter:
    """Appends records to `metrics.jsonl` and to TensorBoard's event files.

    Opened after a restore at step k, it first drops the records beyond k: the run repeats these steps.
    """

    def __init__(self, directory: Path, step: int):
        path = directory / "metrics.jsonl"
        records = [record for record in read(path) if record["step"] <= step]
        atomic.write_text(path, "".join(json.dumps(record) + "\n" for record in records))
        self._lines = atomic.open_in_place(path, "a")
        (directory / "tensorboard").mkdir(exist_ok=True)
        # Not written by tensorboardX's thread: on a full disk it dies, and a caller that waits for it hangs.
        self._events = RecordWriter(str(directory / "tensorboard" / _events_name()))
        self._event(file_version="brain.Event:2")
        self._event(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, record: dict[str, Any]) -> None:
        """Write one record: `step`, and numbers or one level of dictionaries of numbers."""
        self._lines.write(json.dumps(record) + "\n")
        self._lines.flush()
        for key, value in record.items():
            if isinstance(value, dict):
                for name, number in value.items():
                    self._scalar(f"{key}/{name}", number, record["step"])
            elif key != "step":
                self._scalar(key, value, record["step"])
        self._events.flush()

    def close(self) -> None:
        """Flush and close both files."""
        self._lines.close()
        self._events.close()

    def _scalar(self, name: str, value: float, step: int) -> None:
        self._event(step=step, summary=summary.scalar(name, value))

    def _event(self, **fields: Any) -> None:
        self._events.write(Event(wall_time=time.time(), **fields).SerializeToString())


def _events_name() -> str:
    """Return a name of TensorBoard's event files, without the host name that libraries put there."""
    return f"events.out.tfevents.{int(time.time())}.{secrets.token_hex(8)}"


def read(path: Path) -> list[dict[str, Any]]:
    """Return the records of a `metrics.jsonl`, without a last line that a crash has truncated.

    Raises:
        InputError: a line is not a record, or the file is not text.
    """
    if not path.exists():
        return []
    records: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                break
            except (ValueError, RecursionError) as error:
                raise InputError(
                    f"{path} line {number} cannot be read ({describe(error)}); {_REMEDY}"
                ) from error
            if fault := find_fault(record, _RECORD):
                raise InputError(
                    f"{path} line {number}: {fault.place or 'the record'} is not {fault.expected}; {_REMEDY}"
                )
            records.append(record)
    return records


class Progress:
    """Images a second and time left, of this process's own steps (compilation included in neither)."""

    def __init__(self, steps: int, batch_size: int):
        self._steps = steps
        self._batch_size = batch_size
        self._mark: tuple[int, float] | None = None

    def line(self, step: int, loss: float) -> str:
        """Return one line for the terminal."""
        now = time.perf_counter()
        text = f"step {step:>{len(str(self._steps))}}/{self._steps}  loss {loss:.4f}"
        if self._mark is not None and step > self._mark[0]:
            seconds = (now - self._mark[1]) / (step - self._mark[0])
            left = seconds * (self._steps - step)
            text += f"  {self._batch_size / seconds:6.1f} images/s  {duration(left)} left"
        self._mark = (step, now)
        return text

    def skip(self) -> None:
        """Exclude the time since the last line, such as an evaluation, from the next line."""
        if self._mark is not None:
            self._mark = (self._mark[0], time.perf_counter())


def check_profile(steps: Sequence[int]) -> None:
    """Refuse a value that is neither () nor the first and last step of a trace.

    Raises:
        InputError: with the remedy.
    """
    if steps and not (len(steps) == 2 and 1 <= steps[0] <= steps[1]):
        raise InputError(
            f"config.train.profile={tuple(steps)}: give the first and the last step to trace, such as (10, 12), or ()"
        )


class Trace:
    """A profiler trace from the first of the steps to the last; of the first host's devices alone."""

    def __init__(self, directory: Path, steps: Sequence[int]):
        self._directory = directory
        self._steps = range(steps[0], steps[1] + 1) if steps and distributed.is_primary() else range(0)
        self._open = False

    def before_step(self, step: int) -> None:
        """Start the trace at its first step; call it before each step."""
        if step in self._steps and not self._open:
            jax.profiler.start_trace(str(self._directory))
            self._open = True

    def after_step(self, step: int, result: Any) -> None:
        """Stop the trace after its last step; call it after each step with a result of it."""
        if self._open and step == self._steps[-1]:
            jax.block_until_ready(result)
            self.close()
            logger.info("the trace of steps %d to %d is in %s", self._steps[0], step, self._directory)

    def close(self) -> None:
        """Stop the trace, if it runs."""
        if self._open:
            self._open = False
            jax.profiler.stop_trace()
            anonymize_trace_names(self._directory)


def anonymize_trace_names(directory: Path) -> None:
    """Rename the profiler's files, which are named after this host, to `host` and their ending.

    Each session has its own folder, so names do not collide; files of a run that was killed in a trace are renamed
    too. The content of the files, in the profiler's own format, still names the host.
    """
    for ending in _TRACES:
        for path in directory.rglob(f"*{ending}"):
            path.rename(path.with_name(f"host{ending}"))
