"""NIfTI and DICOM whose headers say where pixels lie and how large they are: cases 05, 05b, 06, 07, 08 and 14."""

from pathlib import Path

import nibabel
import numpy as np
from PIL import Image
from scipy import ndimage

from tests.hostile.films import MM, bright, dicom, knee, nifti, table

CASES = 24
SPACINGS = {  # bytes in place of PixelSpacing's, all of 14 bytes of value at most
    "comma": b"2,1875\\2,1875 ",
    "comma_between": b"2.1875,2.1875 ",
    "three": b"2.18\\2.1\\2.187",
    "blank": b"\\ ",
    "word": b"unknown ",
    "small": b"0.001\\0.001 ",
    "large": b"100\\100 ",
    "infinite": b"inf\\inf ",
    "not_a_number": b"nan\\nan ",
}


def thicker(mask: np.ndarray) -> np.ndarray:
    """A contour of one pixel too far."""
    grown = mask.copy()
    for value in (1, 2, 3, 4):
        grown[ndimage.binary_dilation(mask == value) & (grown == 0)] = value
    return grown


def orientations(root: Path) -> Path:
    """Case 05: truth as L-P; predictions in other orders that agree with it in space.

    `pred_by_site` has both orders, one for each sex. `pred_wrong` has the pixels of `R-P` order with a header that says
    `L-P`, of two cases in eight.
    """
    rows = []
    for n in range(CASES):
        mask, name = knee(n)[1], f"c{n:02d}.nii.gz"
        nifti(root / "truth" / name, mask)
        for axes in ("LP", "RP", "RA", "LA", "PL", "AL", "PR", "AR"):
            nifti(root / f"pred_{axes}" / name, thicker(mask), axes)
        nifti(root / "pred_by_site" / name, thicker(mask), "LP" if n % 2 else "RP")
        wrong = thicker(mask)[:, ::-1] if n % 8 < 2 else thicker(mask)
        nifti(root / "pred_wrong" / name, wrong)
        rows.append(f"c{n:02d},p{n:02d},{'fm'[n % 2]}")
    table(root / "metadata.csv", "case_id,patient_id,sex", rows)
    return root


def cohort(root: Path, images: str = "LP", masks: str = "LP") -> Path:
    """Case 05b: images and masks in any orders, which agree in space."""
    rows = []
    for n in range(CASES):
        image, label = knee(n)
        name = f"c{n:02d}.nii.gz"
        nifti(root / "images" / name, image, images)
        nifti(root / "masks" / name, label, masks)
        rows.append(f"c{n:02d},p{n:02d},images/{name},masks/{name},{'fm'[n % 2]}")
    table(root / "metadata.csv", "case_id,patient_id,image,mask,sex", rows)
    return root


def dcm2niix(root: Path, share: int = 1) -> Path:
    """Case 06: DICOM films; every `share`-th mask lies as dcm2niix converts its film, rows bottom-up and no codes."""
    rows = []
    for n in range(CASES):
        name, label = f"c{n:02d}", knee(n)[1]
        dicom(root / "images" / f"{name}.dcm", bright(n))
        mask = nibabel.Nifti1Image(np.ascontiguousarray((label[::-1] if n % share == 0 else label).T), None)
        mask.header["pixdim"][:4] = [-1, MM, MM, 1]
        mask.header.set_xyzt_units("mm")
        (root / "masks").mkdir(parents=True, exist_ok=True)
        nibabel.save(mask, root / "masks" / f"{name}.nii.gz")
        rows.append(f"{name},p{n:02d},images/{name}.dcm,masks/{name}.nii.gz,{'fm'[n % 2]}")
    table(root / "metadata.csv", "case_id,patient_id,image,mask,sex", rows)
    return root


def units(root: Path) -> Path:
    """Case 08: the same masks in mm, in micrometres, in metres, in an unknown unit, and in units by sex."""
    rows = []
    for n in range(CASES):
        mask, name = knee(n)[1], f"c{n:02d}.nii.gz"
        for unit, factor in (("mm", 1), ("micron", 1000), ("meter", 0.001)):
            nifti(root / f"truth_{unit}" / name, mask, mm=factor * MM, unit=unit)
        nifti(root / "truth_unknown" / name, mask, mm=1.0, unit="unknown")
        nifti(root / "truth_wrong" / name, mask, mm=1000 * MM)
        by_site = (MM, "mm") if n % 2 else (1000 * MM, "micron")
        nifti(root / "truth_by_site" / name, mask, mm=by_site[0], unit=by_site[1])
        nifti(root / "pred" / name, np.pad(mask, ((1, 0), (0, 0)), mode="edge")[:-1])
        rows.append(f"c{n:02d},p{n:02d},{'fm'[n % 2]}")
    table(root / "metadata.csv", "case_id,patient_id,sex", rows)
    return root


def bad_spacing(path: Path, kind: str, number: int = 0) -> Path:
    """Case 14: a film whose PixelSpacing is no pair of numbers, or none of a radiograph."""
    dicom(path, bright(number))
    raw, right = path.read_bytes(), b"DS\x0e\x002.1875\\2.1875 "
    assert raw.count(right) == 1
    if kind == "vr_ut":
        bad = b"UT\0\0\x0e\0\0\x002.1875\\2.1875 "
    else:
        value = SPACINGS[kind]
        bad = b"DS" + len(value).to_bytes(2, "little") + value
    path.write_bytes(raw.replace(right, bad))
    return path


def cohort_with_bad_spacing(root: Path) -> dict[str, str]:
    """Case 14: 24 films, of which some have a PixelSpacing that is none; the kind of each by its case."""
    rows, bad = [], dict(zip((f"c{n:02d}" for n in range(5, CASES)), (*SPACINGS, "vr_ut"), strict=False))
    (root / "masks").mkdir(parents=True, exist_ok=True)
    for n in range(CASES):
        name = f"c{n:02d}"
        path = root / "images" / f"{name}.dcm"
        bad_spacing(path, bad[name], n) if name in bad else dicom(path, bright(n))
        Image.fromarray(knee(n)[1]).save(root / "masks" / f"{name}.png")
        rows.append(f"{name},p{n:02d},images/{name}.dcm,masks/{name}.png,{'fm'[n % 2]}")
    table(root / "metadata.csv", "case_id,patient_id,image,mask,sex", rows)
    return bad
