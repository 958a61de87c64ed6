"""Write masks, whole bones and overlays of a film as files.

Each file appears complete or not at all. A NIfTI mask lies on its film in nibabel, ITK, ITK-SNAP and 3D Slicer. Its
header is new: only the geometry and the unit of a NIfTI film are copied, since free text (`descrip`, `db_name`,
`aux_file`, extensions) may name the patient.
"""

import errno
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kneefair_jax import anatomy
from kneefair_jax.data import readers
from kneefair_jax.data.readers import NONE, dicom, dicom_header, orientation
from kneefair_jax.data.readers import nifti as nifti_reader
from kneefair_jax.errors import InputError
from kneefair_jax.predict import films
from kneefair_jax.predict.films import STATED, Film
from kneefair_jax.predict.measuring import FilmMeasurements
from kneefair_jax.predict.quality import SIDES
from kneefair_jax.report import measurement_overlay, overlays
from kneefair_jax.runtime import atomic

OVERLAY = (512, 1024)  # the least and the most pixels of an overlay's longer side
_BONES = (*anatomy.UNIONS, *(f"{side} {bone}" for side in SIDES for bone in anatomy.UNIONS))
_TEXT, _LINE = 16, 24  # pixels, of the legend
_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)
_SCANNER = 1  # the code of coordinates in the scanner's space


def png(path: Path, mask: np.ndarray, film: Film, structures: tuple[str, ...]) -> None:
    """Write labels as gray values 0, 1, 2, ..., as the film is displayed."""
    del structures
    Image.fromarray(film.to_displayed(mask)).save(path, format="PNG")


def nifti(path: Path, mask: np.ndarray, film: Film, structures: tuple[str, ...]) -> None:
    """Write the mask on the film's stored pixels; see `mask_image`."""
    import nibabel

    del structures
    nibabel.save(mask_image(mask, film), path)


def dicom_seg(
    path: Path, mask: np.ndarray, film: Film, structures: tuple[str, ...], *, anonymous: bool = False
) -> None:
    """Write a DICOM segmentation object that refers to the film; see `dicomseg.make`."""
    from kneefair_jax.predict import dicomseg

    spacing = film.stored_spacing().tolist() if film.spacing_kind == films.STATED else None
    segmentation = dicomseg.make(
        film.path, film.to_stored(mask), structures, anonymous=anonymous, spacing=spacing
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation.save_as(path)


Write = Callable[[Path, np.ndarray, Film, tuple[str, ...]], None]
FORMATS: dict[str, tuple[str, Write]] = {  # name -> ending and writer
    "png": (".png", png),
    "nifti": (".nii.gz", nifti),
    "dicomseg": (".dcm", dicom_seg),
}
# Writers in place of those that carry the patient's identity.
ANONYMOUS: dict[str, Write] = {"dicomseg": partial(dicom_seg, anonymous=True)}


type BoneFiles = Mapping[str, tuple[int, Path]]  # whole bone -> its label in its file, and the file


def write_bones(write: Write, path: Path, bones: Mapping[str, np.ndarray], film: Film) -> BoneFiles:
    """Write whole bones, which overlap: as segments of one DICOM-SEG, or as one file per bone.

    Args:
        write: of `FORMATS` or `ANONYMOUS`.
        path: of the DICOM-SEG. A file of one bone has the bone's name before the ending, as the reader of structure
            files expects it: `film_whole_femur.png`.
        bones: name -> bool[H, W]. A DICOM-SEG omits bones without pixels; without any bone it is not written.
        film: the film.
    """
    if write in (dicom_seg, *ANONYMOUS.values()):
        present = {name: bone for name, bone in bones.items() if bone.any()}
        if present:
            write_file(write, path, np.stack([*present.values()], axis=-1), film, tuple(present))
        return {name: (number, path) for number, name in enumerate(present, start=1)}
    files = {}
    for name, bone in bones.items():
        file = bone_path(path, name)
        write_file(write, file, bone.astype(np.uint8), film, (name,))
        files[name] = (1, file)
    return files


def bone_path(path: Path, bone: str) -> Path:
    """Return the path of one bone's file: `a/film.png`, `whole femur` -> `a/film_whole_femur.png`."""
    suffix = readers.suffix_of(path.name)
    return path.with_name(f"{path.name.removesuffix(suffix)}_{bone.replace(' ', '_')}{suffix}")


def overlay(
    path: Path,
    mask: np.ndarray,
    film: Film,
    structures: tuple[str, ...],
    *,
    bones: Mapping[str, np.ndarray] = MappingProxyType({}),
    measurements: FilmMeasurements | None = None,
) -> None:
    """Write the film with the structures tinted and outlined, and a legend of the colors beneath it.

    If there are whole bones, bool[H, W], the lines are their outlines, which another bone may hide. If there are
    measurements, their lines and values are drawn.
    """
    names, table = tints(structures)
    size = int(np.clip(max(mask.shape), *OVERLAY))
    _, color = tints(tuple(bones))
    lines = [(int(color[place]), bone) for place, bone in enumerate(bones.values(), start=1)]
    outlined = np.zeros_like(mask) if bones else table[mask]
    picture = overlays.picture(film.image, outlined, table[mask], size, lines)
    if measurements is not None:
        spacing, scale = measurements.pixel.mm or (1.0, 1.0), picture.shape[1] / mask.shape[1]
        picture = measurement_overlay.add_lines(picture, measurements.knees, spacing, scale)
    strip = _legend(picture.shape[1], names)
    # Level 6, the default, takes four times as long, most of the time of a prediction, for a file a fifth smaller.
    Image.fromarray(np.concatenate([picture, strip])).save(path, format="PNG", compress_level=2)


def tints(structures: tuple[str, ...]) -> tuple[dict[str, int], np.ndarray]:
    """Return the colors of structures: name -> the label whose color it has, and u8[256], that label of each label.

    A bone of the knee has one color in every picture, on both sides and in every label scheme.
    """
    knee = anatomy.SCHEMES["knee"]
    bones = [name.split(" ", 1)[1] if name.split()[0] in SIDES else name for name in structures]
    parts = [anatomy.UNIONS.get(bone, ((bone,),))[0][0] for bone in bones]
    if not set(parts) <= set(knee):
        return {name: label for label, name in enumerate(structures, start=1)}, np.arange(256, dtype=np.uint8)
    labels = [1 + knee.index(part) for part in parts]
    table = np.zeros(256, np.uint8)
    table[1 : len(labels) + 1] = labels
    return dict(sorted(zip(bones, labels, strict=True), key=lambda item: item[1])), table


def _legend(width: int, names: dict[str, int]) -> np.ndarray:
    """Return u8[h, width, 3]: a square of its color before each name, in as many lines as necessary."""
    font = ImageFont.load_default(size=_TEXT)
    places, left, top = [], _TEXT // 2, _TEXT // 2
    for name in names:
        wide = 2 * _TEXT + int(font.getlength(name))
        if left > _TEXT // 2 and left + wide > width:
            left, top = _TEXT // 2, top + _LINE
        places.append((left, top))
        left += wide
    strip = Image.new("RGB", (width, top + _LINE), "black")
    pen = ImageDraw.Draw(strip)
    for (x, y), (name, label) in zip(places, names.items(), strict=True):
        pen.rectangle((x, y, x + _TEXT - 4, y + _TEXT - 4), fill=overlays.color(label))
        pen.text((x + _TEXT, y - 3), name, fill="white", font=font)
    return np.asarray(strip)


def write_file(write: Write, path: Path, mask: np.ndarray, film: Film, structures: tuple[str, ...]) -> None:
    """Call a writer so that the file appears complete or not at all.

    Raises:
        InputError: the file cannot be written, as under a name that is too long.
        OSError: no file can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacement(path) as temporary:
            write(temporary, mask, film, structures)
    except OSError as error:
        # A file that may not be written is that file's fault; a folder that was deleted meanwhile is not.
        is_disk_error = atomic.is_storage_error(error) and error.errno not in (errno.EACCES, errno.EPERM)
        if is_disk_error or isinstance(error, FileNotFoundError):
            raise
        raise InputError(
            f"{film.path}: {path} cannot be written ({error}); rename the file, or give another --out"
        ) from error


def result_paths(name: str) -> Iterator[Path]:
    """Yield every path in the output folder that `run` writes, with some options, of a film of this name.

    Args:
        name: of an `Input`.
    """
    yield Path("overlays", f"{name}.png")
    for ending, write in FORMATS.values():
        yield Path("masks", f"{name}{ending}")
        outlines = Path("outlines", f"{name}{ending}")
        if write is dicom_seg:
            yield outlines
        else:
            yield from (bone_path(outlines, bone) for bone in _BONES)


def mask_image(mask: np.ndarray, film: Film) -> Any:
    """Return the NIfTI image of a mask.

    It has the shape, affine, codes and unit of a NIfTI film; a spacing that `--spacing` states replaces that of the
    affine. Otherwise it is [column, row, 1] with the film's ImageOrientationPatient and ImagePositionPatient. For a
    film without them the directions are the identity in LPS, as SimpleITK sets it, or those of the turn that EXIF
    states, so that pixels lie on the film's stored pixels (as ITK reads them) and the affine displays them as the film.
    If the spacing is unknown, a pixel has size 1 in an unknown unit.

    Args:
        mask: u8[H, W], of `film.image`.
        film: as read.
    """
    import nibabel

    library: Any = nibabel  # which annotates part of its functions
    stored = film.to_stored(mask)
    if readers.suffix_of(film.path.name) in readers.NIFTI_SUFFIXES:
        with nifti_reader.opened(film.path) as source:
            shape, affine, geometry = source.shape, source.affine, source.header
        if stored.size != np.prod(shape):
            raise InputError(f"{film.path}: changed while it was segmented; segment it again")
        header = library.Nifti1Header()
        header.set_data_dtype(np.uint8)
        header.set_data_shape(shape)
        for name in _GEOMETRY:
            header[name] = geometry[name]
        if film.spacing_kind == STATED:
            affine = _state_spacing(header, affine, film)
        return library.Nifti1Image(stored.T.reshape(shape), affine, header)
    spacing = film.stored_spacing()
    has_spacing = bool(np.isfinite(spacing).all())
    affine = _mask_affine(film, stored.shape, spacing if has_spacing else np.ones(2))
    nifti_image = library.Nifti1Image(stored.T[..., None], affine)
    nifti_image.set_qform(affine, _SCANNER)
    nifti_image.set_sform(affine, _SCANNER)
    nifti_image.header.set_xyzt_units("mm" if has_spacing else "unknown")
    return nifti_image


def _state_spacing(header: Any, affine: np.ndarray, film: Film) -> np.ndarray:
    """Write the stated spacing into the header of a NIfTI film, and return the affine with it, f64[4, 4].

    A header without an orientation still has none: its codes are 0.
    """
    axes = nifti_reader.plane(header.get_data_shape()[:3])
    assert axes is not None  # the reader refuses volumes
    sizes = dict(zip(axes, film.stored_spacing()[::-1].tolist(), strict=True))
    header.set_xyzt_units("mm")
    if film.orientation is None:
        header["pixdim"][[1 + axis for axis in sizes]] = list(sizes.values())
        header["sform_code"] = header["qform_code"] = 0
        base: np.ndarray = header.get_base_affine()
        return base
    affine = affine.copy()
    for axis, size in sizes.items():
        affine[:3, axis] *= size / np.linalg.norm(affine[:3, axis])
    header.set_qform(affine, int(header["qform_code"]))
    header.set_sform(affine, int(header["sform_code"]))
    return affine


def _mask_affine(film: Film, shape: tuple[int, ...], spacing: np.ndarray) -> np.ndarray:
    """Return f64[4, 4], which maps [column, row, 0] of stored pixels of this shape to mm in RAS+ space."""
    header = _dicom_header(film)
    cosines = None if header is None else dicom_header.directions(header)
    affine = orientation.affine_of_turn(film.orientation or NONE, shape, spacing.tolist())
    if cosines is not None:
        stated = orientation.affine_of_directions(cosines, dicom_header.position(header), spacing.tolist())
        affine = affine if stated is None else stated
    return affine


def _dicom_header(film: Film) -> Any:
    try:
        return dicom.load(film.path, header=True) if dicom.is_dicom(film.path) else None
    except Exception:  # a truncated header; the pixels could be read
        return None
