"""The endings of file names by which formats are known, in lower case."""

NIFTI = (".nii.gz", ".nii")
NPY = (".npy",)
PALETTE = (".png", ".tif", ".tiff")  # of formats that may have a palette
JPEG = (".jpg", ".jpeg")
DICOM = (".dcm", ".dicom")
SUFFIXES = (*NIFTI, *NPY, *PALETTE, *JPEG, *DICOM)


def suffix_of(name: str) -> str:
    """Return the ending of `SUFFIXES` that a file's name has, whatever its case; "" where it has none."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
