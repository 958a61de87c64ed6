"""Films whose stored values are given their meaning by headers: shared cases 01, 03, 13 and 22.

Every film of a function shows the same knee, correctly described, unless its name says otherwise.
"""

from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from tests.hostile.films import MM, SIZE, bright, dataset, dicom, knee, table


def _lut(values: np.ndarray, bits: int, **more) -> Dataset:
    lut = Dataset()
    lut.LUTDescriptor = [len(values), 0, bits]
    lut.LUTData = values.astype("<u2").tobytes()
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "OW"
    for name, value in more.items():
        setattr(lut, name, value)
    return lut


def polarity(folder: Path) -> Path:
    """Case 01: dense is bright by MONOCHROME1, a negative slope, a LUT, or two of them that cancel out."""
    values, falling = bright(), np.arange(4095, -1, -1)
    slope = {"RescaleSlope": "-1", "RescaleIntercept": "4095", "RescaleType": "US"}
    dicom(folder / "a_plain.dcm", values)
    dicom(folder / "b_monochrome1.dcm", 4095 - values, "MONOCHROME1")
    dicom(folder / "c_negative_slope.dcm", 4095 - values, **slope)
    dicom(folder / "d_monochrome1_negative_slope.dcm", values, "MONOCHROME1", **slope)
    lut = _lut(falling, 16, ModalityLUTType="US")
    dicom(folder / "e_modality_lut.dcm", 4095 - values, ModalityLUTSequence=[lut])
    dicom(folder / "f_voi_lut.dcm", 4095 - values, VOILUTSequence=[_lut(falling, 12)])
    dicom(folder / "g_monochrome2_inverse.dcm", 4095 - values, PresentationLUTShape="INVERSE")
    dicom(folder / "h_monochrome1_inverse.dcm", 4095 - values, "MONOCHROME1", PresentationLUTShape="INVERSE")
    dicom(folder / "i_monochrome1_voi_lut.dcm", values, "MONOCHROME1", VOILUTSequence=[_lut(falling, 12)])
    dicom(folder / "j_signed.dcm", values.astype(np.int16) - 2048)
    dicom(folder / "k_signed_monochrome1.dcm", 2047 - values.astype(np.int16), "MONOCHROME1")
    dicom(folder / "l_modality_lut_of_12_bits.dcm", 4095 - values, ModalityLUTSequence=[_lut(falling, 12)])
    dicom(folder / "m_slope_alone.dcm", 4095 - values, RescaleSlope="-2")
    return folder


def padding(folder: Path) -> Path:
    """Case 03: a frame of padding values far outside the picture's range; `plain.dcm` is the picture alone."""
    values = bright()

    def framed(pixels, value, dtype):
        return np.pad(pixels.astype(dtype), ((0, 0), (16, 16)), constant_values=value)

    dicom(folder / "plain.dcm", values)
    dicom(folder / "b_65535.dcm", framed(values, 65535, np.uint16), bits=16, PixelPaddingValue=65535)
    dicom(folder / "c_minus32768.dcm", framed(values, -32768, np.int16), bits=16, PixelPaddingValue=-32768)
    dicom(
        folder / "d_white.dcm",
        framed(4095 - values + 1, 0, np.uint16),
        "MONOCHROME1",
        13,
        PixelPaddingValue=0,
    )
    limited = framed(values, 60000, np.uint16)
    limited[:, :8] = 61000
    dicom(folder / "e_range.dcm", limited, bits=16, PixelPaddingValue=60000, PixelPaddingRangeLimit=61000)
    return folder


def transfer(folder: Path) -> Path:
    """Case 13: files as archives hold them."""
    folder.mkdir(parents=True, exist_ok=True)
    values = bright()
    dicom(folder / "a_plain.dcm", values)
    for name, pixels, photometric in (
        ("b_no_meta_header.dcm", values, "MONOCHROME2"),
        ("c_no_meta_header", 4095 - values, "MONOCHROME1"),
    ):
        bare = dataset(pixels, photometric)
        del bare.file_meta
        pydicom.dcmwrite(folder / name, bare, implicit_vr=True, little_endian=True, enforce_file_format=False)
    raw = dicom(folder / "d_no_transfer_syntax.dcm", values).read_bytes()
    start = raw.index(b"\x02\x00\x10\x00UI")  # the element is taken out, the group's length corrected
    length = 8 + int.from_bytes(raw[start + 6 : start + 8], "little")
    group = raw.index(b"\x02\x00\x00\x00UL")
    total = int.from_bytes(raw[group + 8 : group + 12], "little") - length
    raw = raw[: group + 8] + total.to_bytes(4, "little") + raw[group + 12 : start] + raw[start + length :]
    (folder / "d_no_transfer_syntax.dcm").write_bytes(raw)
    swapped = dataset(values.astype(">u2").view("<u2"))
    swapped.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(
        folder / "e_big_endian.dcm", swapped, implicit_vr=False, little_endian=False, enforce_file_format=True
    )
    deflated = dataset(values)
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated.save_as(folder / "f_deflated.dcm", enforce_file_format=True)
    overlay = ((np.arange(SIZE)[:, None] % 16) << 12).astype(np.uint16)
    dicom(folder / "g_bits_above_stored.dcm", values | overlay)
    dicom(folder / "h_bits_stored_too_small.dcm", values * 4)
    dicom(folder / "i_bits_stored_right.dcm", values * 4, bits=14)
    dicom(folder / "k_empty_spacing.dcm", values, PixelSpacing=None)
    scanned = {"PixelSpacing": None, "NominalScannedPixelSpacing": [MM, MM]}
    dicom(folder / "l_scanned.dcm", values, NumberOfFrames=1, **scanned)
    shared, measures = Dataset(), Dataset()
    measures.PixelSpacing = [MM, MM]
    shared.PixelMeasuresSequence = [measures]
    enhanced = dataset(values, NumberOfFrames=1, SharedFunctionalGroupsSequence=[shared])
    del enhanced.PixelSpacing
    enhanced.save_as(folder / "m_enhanced.dcm", enforce_file_format=True)
    dicom(folder / "n_reduced_picture.dcm", values, ImagerPixelSpacing=[MM / 4, MM / 4])
    return folder


def cohort(folder: Path, slope: bool) -> Path:
    """Case 22: 24 patients, every sixth of site B, whose films have a negative slope or are plain."""
    rows = []
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    for n in range(24):
        name, site = f"c{n:02d}", "B" if n % 6 == 0 else "A"
        values, tags = bright(n), {}
        if slope and site == "B":
            values, tags = 4095 - values, {"RescaleSlope": "-1", "RescaleIntercept": "4095"}
        dicom(folder / "images" / f"{name}.dcm", values, **tags)
        Image.fromarray(knee(n)[1]).save(folder / "masks" / f"{name}.png")
        rows.append(f"{name},p{n:02d},images/{name}.dcm,masks/{name}.png,{site}")
    table(folder / "metadata.csv", "case_id,patient_id,image,mask,site", rows)
    return folder
