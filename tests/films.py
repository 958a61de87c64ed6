"""A folder of small radiographs in a user's layout."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image


def folder(directory: Path, patient: str = "p", structures: int = 2) -> Path:
    """Write 24 films with up to four rectangles; the patients are `{patient}0`, `{patient}1`, ..."""
    rng = np.random.default_rng(0)
    rows = []
    for name in ("images", "masks"):
        (directory / name).mkdir(parents=True)
    for i in range(24):
        mask = np.zeros((20, 24), np.uint8)
        mask[4:9, 4 : 9 + i % 4] = 1
        mask[12:17, 12:20] = 2
        if structures == 4:
            mask[12:17, 2:6], mask[4:8, 18:22] = 3, 4
        image = np.clip(mask * 60 + rng.normal(80, 10, mask.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(directory / f"images/{i}.png")
        Image.fromarray(mask).save(directory / f"masks/{i}.png")
        rows.append([f"c{i}", f"{patient}{i // 2}", f"images/{i}.png", f"masks/{i}.png"])
        rows[-1] += ["fm"[i // 2 % 2], 40 + 3 * i if i < 22 else "", 0.5]
    columns = ["case_id", "patient_id", "image", "mask", "sex", "age", "spacing_mm"]
    pd.DataFrame(rows, columns=columns).to_csv(directory / "metadata.csv", index=False)
    return directory
