"""Make a NIfTI image of a mask that lies on its film in nibabel, ITK, ITK-SNAP and 3D Slicer.

The header is new: only the geometry and the unit of a NIfTI film are copied, since free text (`descrip`, `db_name`,
`aux_file`, extensions) may name the patient.
"""

from typing import Any

import numpy as np

from kneefair_jax.data import readers
from kneefair_jax.data.readers import NONE, dicom, nifti, orientation
from kneefair_jax.errors import InputError
from kneefair_jax.predict.films import STATED, Film

_GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)
_SCANNER = 1  # the code of coordinates in the scanner's space


def image(mask: np.ndarray, film: Film) -> Any:
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
        with nifti.opened(film.path) as source:
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
    affine = _affine(film, stored.shape, spacing if has_spacing else np.ones(2))
    nifti_image = library.Nifti1Image(stored.T[..., None], affine)
    nifti_image.set_qform(affine, _SCANNER)
    nifti_image.set_sform(affine, _SCANNER)
    nifti_image.header.set_xyzt_units("mm" if has_spacing else "unknown")
    return nifti_image


def _state_spacing(header: Any, affine: np.ndarray, film: Film) -> np.ndarray:
    """Write the stated spacing into the header of a NIfTI film, and return the affine with it, f64[4, 4].

    A header without an orientation still has none: its codes are 0.
    """
    axes = nifti.plane(header.get_data_shape()[:3])
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


def _affine(film: Film, shape: tuple[int, ...], spacing: np.ndarray) -> np.ndarray:
    """Return f64[4, 4], which maps [column, row, 0] of stored pixels of this shape to mm in RAS+ space."""
    header = _dicom_header(film)
    cosines = None if header is None else dicom.directions(header)
    affine = orientation.affine_of_turn(film.orientation or NONE, shape, spacing.tolist())
    if cosines is not None:
        stated = orientation.affine_of_directions(cosines, dicom.position(header), spacing.tolist())
        affine = affine if stated is None else stated
    return affine


def _dicom_header(film: Film) -> Any:
    try:
        return dicom.load(film.path, header=True) if dicom.is_dicom(film.path) else None
    except Exception:  # a truncated header; the pixels could be read
        return None
