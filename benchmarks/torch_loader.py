"""PyTorch's DataLoader over memory-mapped arrays; `benchmarks/pipeline.py` starts it with a Python that has torch.

It answers lines on its input: `<workers> <epochs>` -> seconds.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch


class Cases(torch.utils.data.Dataset):
    """`image.npy` and `label.npy` in a folder, by row."""

    def __init__(self, folder: Path):
        self.image = np.load(folder / "image.npy", mmap_mode="r")
        self.label = np.load(folder / "label.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {
            "image": torch.from_numpy(np.array(self.image[row])),
            "label": torch.from_numpy(np.array(self.label[row])),
            "case": torch.tensor(row),
        }


def main() -> None:
    """Reads the folder, the batch size and numbers of workers from the command line."""
    folder, batch_size, *counts = sys.argv[1:]
    cases = Cases(Path(folder))
    loaders = {
        workers: torch.utils.data.DataLoader(
            cases,
            batch_size=int(batch_size),
            shuffle=True,
            drop_last=True,
            num_workers=int(workers),
            persistent_workers=workers != "0",
        )
        for workers in counts
    }
    print(torch.__version__, flush=True)
    for line in sys.stdin:
        workers, epochs = line.split()
        start = time.perf_counter()
        for _ in range(int(epochs)):
            for batch in loaders[workers]:
                assert len(batch["image"]) == int(batch_size)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
