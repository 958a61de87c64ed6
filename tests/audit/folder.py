"""A small folder of masks to audit: square bones, predictions that miss some of them, a table of cases."""

import csv
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

CASES = 24


def square(top=4, left=4, side=8, size=(20, 24)):
    """u8[H, W]: a femur (1) and, below it, a tibia (2)."""
    mask = np.zeros(size, np.uint8)
    mask[top : top + side, left : left + side] = 1
    mask[top + side : top + side + 3, left : left + side] = 2
    return mask


def truth_of(i):
    """No two cases are alike: the femur has a hole at another place in each."""
    mask = square(left=2 + i % 5, side=7 + i % 2)
    mask[7 + i // 7, 2 + i % 5 + i % 7] = 0
    return mask


def prediction_of(i):
    """Women's bones lose rows, the more the higher i modulo 3; men's are nearly right."""
    mask = truth_of(i)
    mask[: 5 + (i % 3 if i % 2 else 0)] = 0
    return mask


def sex_of(i):
    return "female" if i % 2 else "male"


def save(mask, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def save_nifti(mask, path, mm):
    """L-P order, as it is displayed, in mm."""
    image = nibabel.Nifti1Image(mask.T, np.diag([-mm, -mm, 1, 1]))
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def write_table(path, rows):
    with Path(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(**changes):
    """A row per case, two cases a patient; `changes` are functions of the case's number."""
    return [
        {
            "case_id": f"c{i}",
            "patient_id": f"P{i // 4}{sex_of(i)}",
            "sex": sex_of(i),
            "race": "B" if i // 4 % 3 == 0 else "A",
            "spacing_mm": "0.5",
            **{name: make(i) for name, make in changes.items()},
        }
        for i in range(CASES)
    ]


def write(root, **changes):
    """`truth/`, `pred/` and `metadata.csv` below the root."""
    for i in range(CASES):
        save(truth_of(i), root / "truth" / f"c{i}.png")
        save(prediction_of(i), root / "pred" / f"c{i}.png")
    write_table(root / "metadata.csv", rows_of(**changes))
    return root
