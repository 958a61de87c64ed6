"""Masks as other tools leave them: palettes, DICOM-SEG, void labels, interpolated labels, one file a structure.

Each function writes a cohort below a folder and says in its docstring what is right. The bones are phantoms, drawn
once, at 64 x 64 pixels.
"""

import csv
import functools
from pathlib import Path

import jax
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from scipy import ndimage

from kneefair_jax.data import readers
from kneefair_jax.data.phantom import Bias, draw_case
from kneefair_jax.predict import dicomseg
from tests.hostile import films

SIZE = 64
CASES = 40
NAMES = ("femur", "tibia", "fibula", "patella")
COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
_DX = "1.2.840.10008.5.1.4.1.1.1.1"


@functools.cache
def phantoms() -> tuple[np.ndarray, np.ndarray]:
    """Films u8[N, 64, 64] and masks u8[N, 64, 64] of the scheme `knee`."""
    draw = jax.jit(lambda key, fov: draw_case(key, 0, Bias(), size=(SIZE, SIZE), fov_mm=fov))
    drawn = [draw(jax.random.key(500 + n), 120.0 if n % 2 else 140.0) for n in range(CASES)]
    return np.stack([one.image for one in drawn]), np.stack([one.label for one in drawn])


def case_id(n: int) -> str:
    return f"c{n:02d}"


def table(root: Path, cases: int = CASES, **columns: str) -> Path:
    """`metadata.csv`: one case a patient, women in even rows; a column's text has `{}` for the case id."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case_id", "patient_id", "sex", *columns])
        for n in range(cases):
            texts = [text.format(case_id(n)) for text in columns.values()]
            writer.writerow([case_id(n), f"p{n}", "fm"[n % 2], *texts])
    return root / "metadata.csv"


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def predictions(root: Path, cases: int = CASES) -> None:
    """`pred`: the masks one row lower."""
    for n, mask in enumerate(phantoms()[1][:cases]):
        save(np.pad(mask, ((1, 0), (0, 0)), mode="edge")[:-1], root / "pred" / f"{case_id(n)}.png")


def by_frequency(mask: np.ndarray) -> Image.Image:
    """Indices by how often a label occurs, and the palette likewise: each pixel shows its label's color."""
    order = np.argsort(-np.bincount(mask.ravel(), minlength=5), kind="stable")
    image = Image.frombytes("P", mask.shape[::-1], np.argsort(order).astype(np.uint8)[mask].tobytes())
    image.putpalette(COLORS[order].ravel().tolist())
    return image


def palettes(root: Path, cases: int = 24) -> None:
    """Masks with a palette whose order is not that of the labels.

    From open-mmlab/mmsegmentation#3531, facebookresearch/detectron2#1760 and oxipng#602 (palettes are sorted anew).
    `gray`: values 0 to 4. `quantized`: the same through Pillow's `quantize`, so that every pixel shows the gray value
    of its label and its index is another; it scores as `gray`. `color`: colors by structure, each palette sorted by
    how often a color occurs; it is refused, with two files and the remedy, or scores as `gray`. `colormap`: one
    palette of colors for all, in the order of the labels; it scores as `gray`.
    """
    for n, mask in enumerate(phantoms()[1][:cases]):
        name = f"{case_id(n)}.png"
        save(mask, root / "gray" / name)
        for folder in ("quantized", "color", "colormap"):
            (root / folder).mkdir(exist_ok=True)
        Image.fromarray(mask).quantize(8).save(root / "quantized" / name)
        by_frequency(mask).save(root / "color" / name)
        image = Image.frombytes("P", mask.shape[::-1], mask.tobytes())
        image.putpalette(COLORS.ravel().tolist())
        image.save(root / "colormap" / name)
    predictions(root, cases)
    table(root, cases)


def film(path: Path, pixels: np.ndarray) -> Path:
    """A radiograph as DICOM, u8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = _DX
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.Modality, ds.PatientID, ds.PatientName = "DX", path.stem, "A^B"
    ds.PatientBirthDate, ds.PatientSex = "", "O"
    ds.AccessionNumber, ds.StudyID, ds.StudyDate, ds.StudyTime, ds.ReferringPhysicianName = (
        "",
        "1",
        "",
        "",
        "",
    )
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.ImagerPixelSpacing = [140 / SIZE, 140 / SIZE]
    ds.PixelData = pixels.tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path


def segmentation(path: Path, mask: np.ndarray, described: tuple[int, ...], kind: str = "BINARY"):
    """A DICOM-SEG by highdicom of a film's file, with these labels as segments 1, 2, ..., whether drawn or not."""
    import highdicom

    table_of = np.zeros(5, np.uint8)
    table_of[list(described)] = np.arange(1, len(described) + 1)
    more = {"max_fractional_value": 1} if kind == "FRACTIONAL" else {}
    return highdicom.seg.Segmentation(
        source_images=[pydicom.dcmread(path)],
        pixel_array=table_of[mask][None],
        segmentation_type=highdicom.seg.SegmentationTypeValues[kind],
        segment_descriptions=[
            dicomseg._segment(highdicom, number, NAMES[label - 1])
            for number, label in enumerate(described, start=1)
        ],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="a",
        manufacturer_model_name="a",
        software_versions="1",
        device_serial_number="0",
        **more,
    )


def dicom_segs(root: Path, cases: int = 8) -> None:
    """DICOM-SEG as masks: what `predict --format dicomseg` writes, and SEGs of one frame.

    From highdicom#338 and #180 (empty frames are left out), pydicom-seg#12 and #32, pydicom#292 (one-bit frames).
    `truth`: PNG of the scheme `knee`. `seg_all`: four segments. `seg_tibia`: the tibia alone, one frame of 0 and 1
    whose SegmentLabel is `tibia`. `seg_second`: femur and tibia are described and the tibia alone has a frame. Against
    `truth`, the tibia scores Dice 1 by each, the other bones 1 by `seg_all`.
    """
    for n, (image, mask) in enumerate(zip(*phantoms(), strict=True)):
        if n == cases:
            break
        name, tibia = f"{case_id(n)}.dcm", np.where(mask == 2, 2, 0).astype(np.uint8)
        path = film(root / "films" / name, image)
        save(mask, root / "truth" / f"{case_id(n)}.png")
        for folder, one in {
            "seg_all": dicomseg.make(path, mask, NAMES),
            "seg_tibia": dicomseg.make(path, tibia, NAMES),
            "seg_second": segmentation(path, tibia, (1, 2)),
        }.items():
            (root / folder).mkdir(exist_ok=True)
            one.save_as(root / folder / name)
    table(root, cases, image="films/{}.dcm", mask="seg_all/{}.dcm")


def voids(root: Path, cases: int = 24) -> None:
    """Reference masks with the void label 255, a band along every contour, wider in women.

    From chainercv#949, gluon-cv#211, ST-PlusPlus#2, train-DeepLab#19 and ESANet#31. `pred` has the exact masks: with
    void left out of the scores, Dice is 1 for every structure and group.
    """
    for n, mask in enumerate(phantoms()[1][:cases]):
        edge = ndimage.grey_dilation(mask, 3) != ndimage.grey_erosion(mask, 3)
        void = edge if n % 2 else ndimage.binary_dilation(edge)
        save(np.where(void, 255, mask).astype(np.uint8), root / "truth" / f"{case_id(n)}.png")
        save(mask, root / "pred" / f"{case_id(n)}.png")
    table(root, cases, spacing_mm="2")


def linear(mask: np.ndarray) -> np.ndarray:
    """A mask drawn at half its size and enlarged by linear interpolation, as `cv2.resize` does by default."""
    small = Image.fromarray(mask).resize((SIZE // 2, SIZE // 2), Image.Resampling.NEAREST)
    fine = Image.fromarray(np.asarray(small).astype(np.float32)).resize(
        mask.shape[::-1], Image.Resampling.BILINEAR
    )
    return np.rint(np.asarray(fine)).astype(np.uint8)


def nearest(mask: np.ndarray) -> np.ndarray:
    """The same by nearest neighbor."""
    small = Image.fromarray(mask).resize((SIZE // 2, SIZE // 2), Image.Resampling.NEAREST)
    return np.asarray(small.resize(mask.shape[::-1], Image.Resampling.NEAREST))


def interpolated(root: Path, cases: int = 24) -> list[str]:
    """Masks enlarged by linear interpolation in even cases, by nearest neighbor in odd ones.

    From image-segmentation-keras#11, DarSIA#107, tensorflow/docs#2159, CA-Net#7 and albumentations#850. `masks` are to
    be named, those of even cases alone; so are they as predictions of `truth`.

    Returns:
        The ids of the even cases.
    """
    for n, (image, mask) in enumerate(zip(*phantoms(), strict=True)):
        if n == cases:
            break
        name = f"{case_id(n)}.png"
        save(image, root / "images" / name)
        save(mask, root / "truth" / name)
        save(nearest(mask) if n % 2 else linear(mask), root / "masks" / name)
    table(root, cases, image="images/{}.png", mask="masks/{}.png")
    return [case_id(n) for n in range(0, cases, 2)]


SPOILED = {4: 14, 14: 4}  # a tenth of the cases, and with which each is exchanged


def spoiled_tenth(root: Path, kind: str, side: str, cases: int = 20) -> list[str]:
    """`truth` and `pred`, of which a tenth is faulty on one side; an audit names each with what is wrong.

    `flip-ud`, `rotate-90` (of `readers.ORIENTATIONS`): laid out so. `units`: NIfTI, of which the faulty state a tenth
    of the pixel. `interpolated`: enlarged linearly. `copied`: the next case's. `exchanged`: each other's. `foreign`: of
    a patient who is not in the cohort.

    Returns:
        The ids of the faulty cases.
    """
    truth = list(phantoms()[1][:cases])
    sides = {"truth": truth, "pred": [np.pad(one, ((1, 0), (0, 0)), mode="edge")[:-1] for one in truth]}
    change = {
        "units": lambda n: sides[side][n],
        "interpolated": lambda n: linear(sides[side][n]),
        "copied": lambda n: sides[side][n + 1],
        "exchanged": lambda n: sides[side][SPOILED[n]],
        "foreign": lambda n: phantoms()[1][n + 20],
    }.get(kind, lambda n: readers.ORIENTATIONS[kind].apply(sides[side][n]))
    spoiled = {n: change(n) for n in SPOILED} if kind else {}
    for name, masks in sides.items():
        for n, mask in enumerate(masks):
            wrong = name == side and n in spoiled
            mask = spoiled[n] if wrong else mask
            if kind == "units":
                films.nifti(root / name / f"{case_id(n)}.nii.gz", mask, mm=0.2 if wrong else 2.0)
            else:
                save(np.ascontiguousarray(mask), root / name / f"{case_id(n)}.png")
    table(root, cases)
    return [case_id(n) for n in SPOILED]


def by_structure(root: Path, cases: int = 8) -> None:
    """`truth`: one file a structure, PNG and NPY, 0 and 255 or 0 and 1; with `pred` it scores as `whole` does."""
    (root / "truth").mkdir()
    for n, mask in enumerate(phantoms()[1][:cases]):
        save(mask, root / "whole" / f"{case_id(n)}.png")
        for label, name in enumerate(NAMES, start=1):
            if n % 2:
                save(
                    np.where(mask == label, 255, 0).astype(np.uint8), root / f"truth/{case_id(n)}_{name}.png"
                )
            else:
                np.save(root / f"truth/{case_id(n)}_{name}.npy", mask == label)
    predictions(root, cases)
    table(root, cases)
