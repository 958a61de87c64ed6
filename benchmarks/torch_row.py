"""PyTorch's part of a row of `benchmarks/train_step.py`: the same parameters, built, compared and timed."""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from benchmarks.jax_step import Setting, batch_of
from benchmarks.torch_process import TorchError, TorchProcess

# Largest relative difference of the two first losses: float32 convolutions may run in TF32, of ten bits.
LOSS_TOLERANCE = {"float32": 2e-3, "bfloat16": 3e-2}


def torch_arrays(params: dict[str, Any]) -> dict[str, np.ndarray]:
    """The parameters of a U-Net of `kneefair_jax.models` as the state dict of `benchmarks.torch_step`'s.

    Kernels HWIO become OIHW; the dense layer of an up-sampling, [C, 4 F], becomes the kernel [C, F, 2, 2] of a
    transposed convolution, whose bias is the same at all four places (it starts at 0).
    """
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = [entry.key for entry in path]
        array = np.asarray(leaf)
        if names[0].startswith("up_"):
            features = array.shape[-1] // 4
            if names[-1] == "kernel":
                array = array.reshape(-1, 2, 2, features).transpose(0, 3, 1, 2)
            else:
                array = array.reshape(4, features).mean(0)
        elif names[-1] == "kernel":
            array = array[None, None] if array.ndim == 2 else array  # a dense layer is a 1 x 1 convolution
            array = array.transpose(3, 2, 0, 1)
        last = {"kernel": "weight", "scale": "weight", "bias": "bias"}[names[-1]]
        modules = [name for name in names[:-1] if name not in ("BatchNorm_0", "Dense_0")]
        key = re.sub(r"(layer\d|downsample)_(\d)", r"\1.\2", ".".join([*modules, last]))
        arrays[key] = np.ascontiguousarray(array)
    return arrays


class TorchRow:
    """PyTorch's part of one row; what it cannot do is written into the row as its error.

    Args:
        processes: by variant, `torch_eager` and `torch_compile`: one that hangs does not end the other.
        row: gets `torch_eager` and `torch_compile`.
        deadline: for each answer, on the clock `time.monotonic`.
    """

    def __init__(self, processes: dict[str, TorchProcess], row: dict[str, Any], deadline: float):
        self._processes, self._row, self._deadline = processes, row, deadline
        self._awaited = ""
        self._ready: list[str] = []

    def build(
        self,
        setting: Setting,
        network: dict[str, Any],
        params: dict[str, Any],
        folder: Path,
    ) -> None:
        """Builds all variants but the last, and sends the command for that one, which compiles while JAX does.

        One after another: PyTorch and XLA choose algorithms by timing them.
        """
        batch, file = batch_of(setting), folder / "start.safetensors"
        image = np.ascontiguousarray(batch["image"].transpose(0, 3, 1, 2))
        save_file(torch_arrays(params) | {"image": image, "label": batch["label"]}, file)
        for key in self._processes:
            self.await_build()
            fields = {"file": str(file), "network": network, "dtype": setting.dtype}
            with self._noted(key):
                self._processes[key].send("build", key=key, compile=key == "torch_compile", **fields)
                self._awaited = key

    def await_build(self) -> None:
        """Waits for the variant whose command was sent, if there is one."""
        if key := self._awaited:
            self._awaited = ""
            with self._noted(key):
                self._row[key] = self._processes[key].answer(self._deadline - time.monotonic())
                self._ready.append(key)

    def check_losses(self, dtype: str, loss: float) -> None:
        """Notes whether the first losses are those of this package."""
        for key in self._ready:
            answer = self._row[key]
            answer["loss_difference"] = abs(answer["loss"] - loss) / abs(loss)
            answer["same_loss"] = bool(answer["loss_difference"] <= LOSS_TOLERANCE[dtype])

    def time(self, updates: int) -> dict[str, float]:
        """Milliseconds of an update of each variant that works."""
        times = {}
        for key in [key for key in self._ready if "error" not in self._row[key]]:
            with self._noted(key):
                seconds = self._deadline - time.monotonic()
                answer = self._processes[key].ask("time", seconds, key=key, steps=updates)
                times[key] = answer["milliseconds"]
                if answer["peak_bytes"] is not None:
                    self._row[key]["peak_bytes"] = answer["peak_bytes"]
        return times

    def time_forward(self, passes: int) -> dict[str, float]:
        """Milliseconds of a forward pass at test time of each variant that works."""
        times = {}
        for key in [key for key in self._ready if "error" not in self._row[key]]:
            with self._noted(key):
                seconds = self._deadline - time.monotonic()
                times[key] = self._processes[key].ask("time_forward", seconds, key=key, passes=passes)[
                    "milliseconds"
                ]
        return times

    def free(self) -> None:
        """Drops all variants, also that which is still being built."""
        self.await_build()
        for key, process in self._processes.items():
            if process.alive:
                with self._noted(key):
                    process.ask("free", max(10.0, self._deadline - time.monotonic()))

    @contextlib.contextmanager
    def _noted(self, key: str) -> Iterator[None]:
        try:
            yield
        except TorchError as error:
            self._row[key] = self._row.get(key, {}) | {"error": str(error)}
