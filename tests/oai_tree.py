"""The OAI's file layout and the study's layout, filled with phantoms by pydicom and nibabel."""

import functools
from pathlib import Path

import jax
import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from kneefair_jax.data.phantom import draw_case

SERIES = "Bilateral PA Fixed Flexion Knee"
KNEE = (48, 40)  # rows and columns of a knee in a film
MARGIN, GAP = 3, 9  # air beside and between the knees, columns
COUNT = 6  # patients drawn; the films of more repeat them
# knee: femur, tibia, fibula, patella -> knees, where right ones are odd.
TO_RIGHT = np.array([0, 3, 5, 7, 1], np.uint8)
TO_LEFT = np.array([0, 4, 6, 8, 2], np.uint8)
SEX = {1: "1: Male", 2: "2: Female", None: ".: Missing Form/Incomplete Workbook"}
RACE = {
    0: "0: Other Non-white",
    1: "1: White or Caucasian",
    2: "2: Black or African American",
    3: "3: Asian",
    None: ".: Missing Form/Incomplete Workbook",
}


def patient(k: int) -> str:
    return str(9000099 + 1000 * k)


def barcode(k: int, visit: int = 0) -> str:
    return f"{180901 + 10 * k + visit:08d}"


def name(k: int, folder: str = "00m") -> str:
    return f"{patient(k)}_{folder}_{barcode(k)}"


def sex(k):
    return 1 + k % 2


def race(k):
    return 1 + k // 2 % 2


def age(k):
    return 46 + k * 7 % 33


def grade(k, side):
    """Kellgren-Lawrence grade of side 1 (right) or 2."""
    return (k + 2 * side) % 5


@functools.cache
def knees() -> tuple[np.ndarray, np.ndarray]:
    """Images and labels u8[COUNT, 2, H, W] of right and left knees."""

    # One by one and hardly optimised: compiling would take far longer than drawing a dozen.
    draw = jax.jit(
        functools.partial(draw_case, size=KNEE), compiler_options={"xla_backend_optimization_level": 0}
    )
    keys = jax.random.split(jax.random.key(0), COUNT)
    films = [draw(key, knee) for key in keys for knee in range(2)]
    images, labels = ([getattr(film, name) for film in films] for name in ("image", "label"))
    return np.reshape(images, (COUNT, 2, *KNEE)), np.reshape(labels, (COUNT, 2, *KNEE))


def film(k: int) -> tuple[np.ndarray, np.ndarray]:
    """A bilateral film u16[H, W] of 12 bits, right knee at image left, and its mask u8[H, W]."""
    images, labels = knees()
    height, width = KNEE
    picture = np.zeros((height, 2 * (MARGIN + width) + GAP), np.uint16)
    label = np.zeros(picture.shape, np.uint8)
    right, left = slice(MARGIN, MARGIN + width), slice(-MARGIN - width, -MARGIN)
    picture[:, right], picture[:, left] = images[k % COUNT].astype(np.uint16) * 15 + 100
    label[:, right], label[:, left] = TO_RIGHT[labels[k % COUNT, 0]], TO_LEFT[labels[k % COUNT, 1]]
    return picture, label


def write_film(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", **tags) -> Path:
    """Write a CR film of 12 bits, without the tags that are None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = (4095 - pixels if photometric == "MONOCHROME1" else pixels).astype("<u2").tobytes()
    for tag, value in ({"SeriesDescription": SERIES, "ImagerPixelSpacing": [0.3, 0.2]} | tags).items():
        if value is not None:
            setattr(dataset, tag, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_mask(path: Path, label: np.ndarray) -> Path:
    """Write a mask as NIfTI, which is stored [x, y, 1]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(label.T[..., None], np.eye(4)), path)
    return path


def place(root: Path, k: int, folder: str = "00m", release: str = "0.C.2", visit: int = 0) -> Path:
    """Return the path of a film's file."""
    return root / folder / release / patient(k) / "20050120" / barcode(k, visit) / "001"


def add(root: Path, k: int, visit: int = 0, folder: str = "00m", **tags) -> None:
    """Write a film and its mask, named by barcode."""
    picture, label = film(k)
    release = "0.C.2" if k % 3 else "0.E.1"
    tags = {"AccessionNumber": f"0166{barcode(k, visit)}"} | tags
    write_film(place(root, k, folder, release, visit), picture, **tags)
    write_mask(root / "masks" / f"{barcode(k, visit)}.nii.gz", label)


def table(path: Path, header: list[str], rows: list[list], separator: str = "|") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [separator.join(map(str, row)) for row in [header, *rows]]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_tables(
    folder: Path,
    count: int,
    *,
    bare: bool = False,
    lower: bool = False,
    separator: str = "|",
    enrollees: str = "Enrollees.txt",
    clinical: str = "AllClinical00.txt",
    readings: str = "kxr_sq_bu00.txt",
    exams: str = "XRay00.txt",
) -> None:
    """Write the tables of enrollees, age, Kellgren-Lawrence grades and film quality, with labels or bare codes."""

    def coded(labels, value):
        return labels[value] if not bare else "." if value is None else value

    def write(path, header, rows):
        table(folder / path, [name.lower() for name in header] if lower else header, rows, separator)

    ids = range(count)
    write(
        enrollees,
        ["ID", "VERSION", "P02HISP", "P02RACE", "P02SEX", "V00COHORT", "V00SITE"],
        [
            [
                *(patient(k), 1, coded({0: "0: No"}, 0), coded(RACE, race(k)), coded(SEX, sex(k))),
                *(coded({1: "1: Progression"}, 1), "ABCDE"[k % 5]),
            ]
            for k in ids
        ],
    )
    write(clinical, ["ID", "VERSION", "V00AGE", "P01BMI"], [[patient(k), 1, age(k), 20 + k / 2] for k in ids])
    sides = {1: "1: Right", 2: "2: Left"}
    write(
        readings,
        ["ID", "SIDE", "READPRJ", "VERSION", "V00XRKL"],
        [
            # Another project read the same films, for other things.
            [patient(k), coded(sides, side), project, 1, grade(k, side) if project == 15 else 9]
            for k in ids
            for side in (1, 2)
            for project in (37, 15)
        ],
    )
    quality = [f"V00{name}" for name in ("ACCEPT", "ALIGN", "CENTER", "DEPICT", "EXPOSE", "MOTION", "POSITN")]
    write(
        exams,
        ["ID", "V00XRBARCD", "V00XRSIDE", *quality],
        # Leading zeros of barcodes are lost.
        [[patient(k), f"166{barcode(k)}", 3, coded({1: "1: Yes"}, 1), *[0] * 6] for k in ids],
    )


def tree(root: Path, count: int = 4, **tables) -> Path:
    """Write a download of `count` patients at baseline."""
    for k in range(count):
        add(root, k)
    write_tables(root / "General", count, **tables)
    return root


def study(root: Path, count: int = 4, **tables) -> Path:
    """Write the study's layout, with films named by patient."""
    for k in range(count):
        picture, label = film(k)
        write_film(root / "Images" / f"{patient(k)}.dcm", picture)
        write_mask(root / "Annotations" / f"{patient(k)}.nii.gz", label)
    write_tables(root / "tables", count, **tables)
    return root


def config(folder: Path, **changes) -> dict:
    """The data section of `configs/oai.py`."""
    quality = dict.fromkeys(("ACCEPT", "ALIGN", "CENTER", "DEPICT", "EXPOSE", "MOTION", "POSITN"), "")
    return {
        "root": str(folder),
        "masks": str(folder / "masks"),
        "tables": "",
        "visits": ("00",),
        "visit": "00",
        "knees": "film",
        "mirror": False,
        "attributes": ("sex", "race", "age"),
        "bins": {"age": (50, 64)},
        "quality": quality | changes.pop("quality", {}),
    } | changes
