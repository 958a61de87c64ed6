"""Cases that stay in memory once they were read: unpacking a record costs more than everything after it."""

import threading
from typing import Protocol

import numpy as np

LIMIT = 2 * 2**30  # bytes; 65,000 cases of 128 x 128, 8,000 of 360 x 360


class Arrays(Protocol):
    """Prepared cases by row: `cases[k]` -> `{"image", "label", "spacing"}`; `store.Cases` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> dict[str, np.ndarray]: ...


class Kept:
    """The same cases, each kept after its first reading until `limit` bytes are full; the rest is read each time."""

    def __init__(self, cases: Arrays, limit: int = LIMIT):
        self._cases = cases
        self._free = limit
        self._kept: dict[int, dict[str, np.ndarray]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        row = int(row)
        if (kept := self._kept.get(row)) is not None:
            return kept
        case = self._cases[row]
        size = sum(array.nbytes for array in case.values())
        with self._lock:
            if row not in self._kept and size <= self._free:
                for array in case.values():
                    array.flags.writeable = False  # whoever changes it changes it for everyone
                self._free -= size
                self._kept[row] = case
        return self._kept.get(row, case)
