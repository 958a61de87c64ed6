"""Masks, overlays and areas as files; each appears whole or not at all."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kneefair_jax.errors import InputError
from kneefair_jax.predict.films import Film
from kneefair_jax.report import overlays

OVERLAY = (512, 1024)  # the least and the most pixels of an overlay's longer side


def png(path: Path, mask: np.ndarray, film: Film, structures: tuple[str, ...]) -> None:
    """Labels as grey values 0, 1, 2, ..."""
    del film, structures
    Image.fromarray(mask).save(path, format="PNG")


def nifti(path: Path, mask: np.ndarray, film: Film, structures: tuple[str, ...]) -> None:
    """The mask [x, y, ...] with the affine of a NIfTI film, else with its spacing (1 where that is unknown)."""
    import nibabel

    del structures
    if film.path.name.lower().endswith((".nii", ".nii.gz")):
        source: Any = nibabel.load(film.path)
        header = source.header.copy()
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1, 0)
        image = nibabel.Nifti1Image(mask.T.reshape(source.shape), source.affine, header)
    else:
        known = np.isfinite(film.spacing).all()
        down, across = film.spacing if known else (1.0, 1.0)
        image = nibabel.Nifti1Image(mask.T[..., None], np.diag([across, down, 1.0, 1.0]))
        image.header.set_xyzt_units("mm" if known else "unknown")
    nibabel.save(image, path)


def dicom_seg(path: Path, mask: np.ndarray, film: Film, structures: tuple[str, ...]) -> None:
    """A DICOM segmentation object that refers to the film; see `dicomseg.make`."""
    from kneefair_jax.predict import dicomseg

    made = dicomseg.make(film.path, mask, structures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.save_as(path)


Write = Callable[[Path, np.ndarray, Film, tuple[str, ...]], None]
FORMATS: dict[str, tuple[str, Write]] = {  # name -> ending and writer
    "png": (".png", png),
    "nifti": (".nii.gz", nifti),
    "dicomseg": (".dcm", dicom_seg),
}


def overlay(path: Path, mask: np.ndarray, film: Film, structures: tuple[str, ...]) -> None:
    """The film with the structures tinted and outlined."""
    del structures
    size = int(np.clip(max(mask.shape), *OVERLAY))
    Image.fromarray(overlays.picture(film.image, mask, mask, size)).save(path, format="PNG")


def whole(write: Write, path: Path, mask: np.ndarray, film: Film, structures: tuple[str, ...]) -> None:
    """Calls a writer so that the file appears whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    temporary = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary, mask, film, structures)
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"{film.path}: {path} cannot be written ({error}); free space, or give another --out"
        ) from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
