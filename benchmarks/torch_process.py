"""A process with PyTorch that takes turns with this one: starts `benchmarks.torch_step` and asks it for timings."""

import contextlib
import json
import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]


class TorchError(RuntimeError):
    """PyTorch could not do what it was asked, or did not answer in time."""


class TorchProcess:
    """Commands for `benchmarks.torch_step`.

    Attributes:
        versions: what it runs on.
        alive: whether it still answers; after a missed deadline it is stopped.
    """

    def __init__(self, process: subprocess.Popen[str], seconds: float):
        assert process.stdin and process.stdout
        self._process, self._input = process, process.stdin
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()
        self.alive = True
        self.versions = self.answer(seconds)

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._lines.put(line)
        self._lines.put("")  # the process ended

    def send(self, command: str, **fields: Any) -> None:
        """Sends a command, without waiting for its answer.

        Raises:
            TorchError: the process has ended.
        """
        try:
            print(json.dumps({"command": command} | fields), file=self._input, flush=True)
        except (OSError, ValueError) as error:
            self.alive = False
            raise TorchError("the PyTorch process has ended") from error

    def answer(self, seconds: float) -> dict[str, Any]:
        """Waits for the next answer.

        Raises:
            TorchError: with PyTorch's error, or where no answer comes in that many seconds.
        """
        try:
            line = self._lines.get(timeout=max(seconds, 0.1))
        except queue.Empty:
            self.alive = False
            self._process.kill()
            raise TorchError(f"no answer in {seconds:.0f} s; the PyTorch process was stopped") from None
        if not line:
            self.alive = False
            raise TorchError(f"the PyTorch process ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise TorchError(answer["error"])
        return answer

    def ask(self, command: str, seconds: float, **fields: Any) -> dict[str, Any]:
        """`send` and `answer`."""
        self.send(command, **fields)
        return self.answer(seconds)


def environment() -> dict[str, str]:
    """The environment variables of another interpreter, without the path to this one's packages."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@contextlib.contextmanager
def start(python: str, seconds: float = 120.0) -> Iterator[TorchProcess]:
    """Starts PyTorch in another interpreter, and stops it in the end.

    Args:
        python: an interpreter that has torch, safetensors and NumPy.
        seconds: to wait for it.

    Raises:
        TorchError: that interpreter has no torch, or does not answer.
    """
    with subprocess.Popen(
        [python, "-m", "benchmarks.torch_step"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield TorchProcess(process, seconds)
        finally:
            process.kill()
