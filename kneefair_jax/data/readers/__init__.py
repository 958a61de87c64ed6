"""Image and mask files -> arrays: PNG, JPEG, TIFF, NPY, DICOM and NIfTI.

Arrays are indexed [row, column] in the displayed space of `orientation`: bone bright, at the file's full depth, padding
excluded, oriented by the header. Every error is an `InputError` that names the file and the remedy.
"""

from kneefair_jax.data.readers.files import (
    DICOM_SUFFIXES,
    JPEG_SUFFIXES,
    NIFTI_SUFFIXES,
    PALETTE_SUFFIXES,
    SUFFIXES,
    has_dicom_magic,
    read_image,
    read_label_file,
    read_mask,
    read_radiograph,
    suffix_of,
)
from kneefair_jax.data.readers.orientation import NONE, ORIENTATIONS, Orientation, name_of
from kneefair_jax.data.readers.pixels import (
    Mask,
    Radiograph,
    labels_at,
    resize_image,
    resize_label,
    to_gray,
    to_uint8,
)

__all__ = [
    "DICOM_SUFFIXES",
    "JPEG_SUFFIXES",
    "NIFTI_SUFFIXES",
    "NONE",
    "ORIENTATIONS",
    "PALETTE_SUFFIXES",
    "SUFFIXES",
    "Mask",
    "Orientation",
    "Radiograph",
    "has_dicom_magic",
    "labels_at",
    "name_of",
    "read_image",
    "read_label_file",
    "read_mask",
    "read_radiograph",
    "resize_image",
    "resize_label",
    "suffix_of",
    "to_gray",
    "to_uint8",
]
