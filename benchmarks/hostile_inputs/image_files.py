"""Films that `predict` reads beside a good one: headers that lie, bombs, sparse files, no regular file, odd names."""

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from benchmarks.hostile_files import picture, predict
from benchmarks.hostile_inputs import Kind

type Write = Callable[[Path], object]

_BLOCK = bytes(1 << 20)
# 65,535 x 65,535 pixels of 8 bits, by the header alone.
_JPEG_LS = b"\xff\xd8\xff\xf7\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\0\0" + bytes(
    64
)


def _header(pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **tags: Any) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def dicom(**tags: Any) -> Write:
    """Return the writer of a DICOM film with some tags replaced."""

    def write(path: Path) -> None:
        dataset = _header(picture(), **{"PixelData": picture().tobytes()} | tags)
        dataset["PixelData"].VR = "OW"
        dataset.save_as(path, enforce_file_format=True)

    return write


def dicom_spacing(text: str) -> Write:
    """Return the writer of a DICOM film whose PixelSpacing is a text that pydicom would not write."""

    def write(path: Path) -> None:
        room = "1234567890\\123456"[: len(text) + len(text) % 2]
        stream = io.BytesIO()
        with pydicom.config.disable_value_validation():
            dataset = _header(picture(), PatientComments=room, PixelData=picture().tobytes())
            dataset["PixelData"].VR = "OW"
            dataset.save_as(stream, enforce_file_format=True)
        value = text.encode().ljust(len(room))
        comments = b"\x10\x00\x00\x40LT" + struct.pack("<H", len(room)) + room.encode()
        spacing = b"\x28\x00\x30\x00DS" + struct.pack("<H", len(value)) + value
        content = stream.getvalue().replace(comments, b"")
        place = content.index(b"\x28\x00\x00\x01US")  # before BitsAllocated
        path.write_bytes(content[:place] + spacing + content[place:])

    return write


def deflated_dicom(side: int, blocks: int) -> Write:
    """Return the writer of a deflated DICOM whose pixels are `blocks` MiB of zeros."""

    def write(path: Path) -> None:
        stream = io.BytesIO()
        dataset = _header(np.empty((side, side), np.uint8), DeflatedExplicitVRLittleEndian)
        dataset.save_as(stream, enforce_file_format=True)
        start = 144 + pydicom.dcmread(io.BytesIO(stream.getvalue())).file_meta.FileMetaInformationGroupLength
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        with path.open("wb") as file:
            file.write(stream.getvalue()[:start])
            file.write(packer.compress(zlib.decompress(stream.getvalue()[start:], -15)))
            file.write(packer.compress(b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", blocks << 20)))
            for _ in range(blocks):
                file.write(packer.compress(_BLOCK))
            file.write(packer.flush())

    return write


def encapsulated_dicom(syntax: UID, frame: Callable[[], bytes]) -> Write:
    """Return the writer of a DICOM film of 20 x 24 pixels whose compressed frame may hold others."""

    def write(path: Path) -> None:
        dataset = _header(picture(), syntax, PixelData=encapsulate([frame()]))
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.save_as(path, enforce_file_format=True)

    return write


def _nested_dicom(path: Path) -> None:
    """Sequences within sequences, 2,000 deep."""
    item = b""
    for _ in range(2000):
        item = (
            b"\x08\x00\x40\x11SQ\0\0"
            + struct.pack("<I", len(item) + 8)
            + b"\xfe\xff\x00\xe0"
            + struct.pack("<I", len(item))
            + item
        )
    stream = io.BytesIO()
    dataset = _header(picture(), PixelData=picture().tobytes())
    dataset["PixelData"].VR = "OW"
    dataset.save_as(stream, enforce_file_format=True)
    place = stream.getvalue().index(b"\x28\x00\x02\x00US")
    path.write_bytes(stream.getvalue()[:place] + item + stream.getvalue()[place:])


def _jpeg_2000() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (5_000, 5_000)).save(stream, format="JPEG2000")
    return stream.getvalue()


def nifti(shape: tuple[int, ...], blocks: int = 0, **fields: Any) -> Write:
    """Return the writer of a NIfTI header and `blocks` MiB of zeros, with gzip where the name says so."""

    def write(path: Path) -> None:
        header = nibabel.Nifti1Header()
        header["magic"], header["vox_offset"] = b"n+1", 352
        header["dim"][: len(shape) + 1] = [len(shape), *shape]
        header["pixdim"][1:4] = 0.3
        for name, value in fields.items():
            header[name] = value
        with gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb") as file:
            file.write(header.binaryblock + bytes(4))
            for _ in range(blocks):
                file.write(_BLOCK)
            if not blocks:
                file.write(bytes(4096))

    return write


def npy(shape: tuple[int, ...], dtype: str = "|u1", fortran: bool = False, size: int = 0) -> Write:
    """Return the writer of an NPY header and a hole of `size` bytes."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            about = {"descr": dtype, "fortran_order": fortran, "shape": shape}
            np.lib.format.write_array_header_1_0(file, about)
            file.truncate(file.tell() + size)

    return write


def png(width: int, height: int, depth: int = 8, color: int = 0, rows: int = 0, more: bytes = b"") -> Write:
    """Return the writer of a PNG whose header states a size and that holds `rows` black rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def write(path: Path) -> None:
        head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
        row = bytes(1 + width * depth * {0: 1, 2: 3, 4: 2, 6: 4}[color] // 8)
        packer = zlib.compressobj()
        data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
        content = chunk(b"IHDR", head) + more + chunk(b"IDAT", data) + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)

    return write


def _text_bomb() -> bytes:
    data = b"Comment\0\0" + zlib.compress(bytes(1 << 28))
    return struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))


def tiff(width: int, height: int, bits: int = 8, sample: int = 1, loop: bool = False) -> Write:
    """Return the writer of a deflated TIFF of black pixels in one strip; `loop` lets it be its own next image."""

    def write(path: Path) -> None:
        packer = zlib.compressobj()
        row = bytes(width * bits // 8)
        data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
        tags = {
            256: width,
            257: height,
            258: bits,
            259: 8,
            262: 1,
            273: 8,
            277: 1,
            278: height,
            279: len(data),
            339: sample,
        }
        ifd = struct.pack("<H", len(tags)) + b"".join(
            struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items()
        )
        place = 8 + len(data)
        path.write_bytes(
            b"II*\0" + struct.pack("<I", place) + data + ifd + struct.pack("<I", place if loop else 0)
        )

    return write


def _jpeg(path: Path) -> None:
    """A small JPEG whose header states 65,500 x 65,500 pixels."""
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, format="JPEG")
    content = bytearray(stream.getvalue())
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", 65_500, 65_500)
    path.write_bytes(content)


def _npz(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 16, 1 << 15)}
        )
        for _ in range(1 << 11):
            file.write(_BLOCK)


def sparse(size: int, head: bytes = b"") -> Write:
    """Return the writer of a hole of `size` bytes after the first bytes of a format."""

    def write(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    return write


def _truncated(path: Path) -> None:
    good = path.with_name(f"whole{''.join(path.suffixes)}")
    if path.suffix == ".gz":
        nibabel.save(nibabel.Nifti1Image(picture()[..., None], np.eye(4)), good)
    else:
        Image.fromarray(picture()).save(good)
    path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    good.unlink()


def _pickled(path: Path) -> None:
    np.save(path, np.array([[{}, []]], object), allow_pickle=True)


def _image(array: np.ndarray) -> Write:
    return lambda path: Image.fromarray(array).save(path)


# Name of the kind -> name of the film beside a good one, and its writer; each is a failed film and the rest goes on.
FILMS: dict[str, tuple[str, Write]] = {
    "DICOM spacing with a decimal comma": ("a.dcm", dicom_spacing("0,546875")),
    "DICOM spacing of three values": ("a.dcm", dicom_spacing("0.2\\0.2\\0.2")),
    "DICOM spacing is a word": ("a.dcm", dicom_spacing("unknown")),
    "DICOM spacing zero": ("a.dcm", dicom_spacing("0\\0")),
    "DICOM spacing negative": ("a.dcm", dicom_spacing("-0.2\\0.2")),
    "DICOM spacing nan": ("a.dcm", dicom_spacing("nan\\nan")),
    "DICOM spacing 1e300": ("a.dcm", dicom_spacing("1e300\\1e300")),
    "deflated DICOM, 1.5 GiB in one picture": ("a.dcm", deflated_dicom(40_000, 1536)),
    "deflated DICOM, 1.5 GiB behind a small picture": ("a.dcm", deflated_dicom(20, 1536)),
    "DICOM of more rows than its pixels": ("a.dcm", dicom(Rows=400)),
    "DICOM of fewer rows than its pixels": ("a.dcm", dicom(Rows=16)),
    "DICOM of 65,535 x 65,535 pixels": ("a.dcm", dicom(Rows=65_535, Columns=65_535)),
    "DICOM of 0 rows": ("a.dcm", dicom(Rows=0)),
    "DICOM of 10,000 frames": ("a.dcm", dicom(NumberOfFrames=10_000)),
    "DICOM of 7 bits allocated": ("a.dcm", dicom(BitsAllocated=7)),
    "DICOM of 12 bits allocated": ("a.dcm", dicom(BitsAllocated=12)),
    "DICOM of 65,535 samples a pixel": ("a.dcm", dicom(SamplesPerPixel=65_535)),
    "DICOM with a larger JPEG 2000 inside": ("a.dcm", encapsulated_dicom(JPEG2000Lossless, _jpeg_2000)),
    "DICOM with a larger JPEG-LS inside": ("a.dcm", encapsulated_dicom(JPEGLSLossless, lambda: _JPEG_LS)),
    "DICOM with noise for a JPEG": ("a.dcm", encapsulated_dicom(JPEGLosslessSV1, picture().tobytes)),
    "DICOM with noise for RLE": ("a.dcm", encapsulated_dicom(RLELossless, picture().tobytes)),
    "DICOM of an unknown transfer syntax": ("a.dcm", lambda path: _unknown_syntax(path)),
    "sparse DICOM of 12 GB": ("a.dcm", sparse(12 << 30, bytes(128) + b"DICM")),
    "NIfTI of 30,000 volumes, 2.3 MB": ("a.nii.gz", nifti((100, 100, 1, 30_000), 286)),
    "NIfTI of dimension 0": ("a.nii.gz", nifti((0, 24))),
    "NIfTI of negative dimension": ("a.nii.gz", nifti((-20, 24))),
    "NIfTI of 32,767 x 32,767 pixels": ("a.nii", nifti((32_767, 32_767))),
    "NIfTI of dimensions beyond 64 bits": ("a.nii", nifti((32_767,) * 7)),
    "NIfTI with 3 GiB behind its pixels": ("a.nii.gz", nifti((20, 24), 3072)),
    "NIfTI with 3 GiB before its pixels": ("a.nii.gz", nifti((20, 24), 3072, vox_offset=3e9)),
    "NIfTI whose pixels begin beyond the file": ("a.nii", nifti((20, 24), vox_offset=1e30)),
    "NIfTI of pixel size nan": (
        "a.nii",
        nifti((20, 24), pixdim=[1, np.nan, np.nan, 1, 1, 1, 1, 1], xyzt_units=2),
    ),
    "NIfTI of complex numbers": ("a.nii", nifti((20, 24), datatype=32, bitpix=64)),
    "NIfTI broken off": ("a.nii.gz", _truncated),
    "sparse NPY of 6.6 GB": ("a.npy", npy((100_000, 66_000), size=6_600_000_000)),
    "NPY of 4 EB": ("a.npy", npy((1 << 31, 1 << 31))),
    "NPY of Python objects": ("a.npy", _pickled),
    "NPY of four dimensions": ("a.npy", npy((2, 20, 24, 3), size=2880)),
    "NPY of no dimension": ("a.npy", npy((), size=1)),
    "NPY shorter than its header says": ("a.npy", npy((20, 24), size=100)),
    "NPY of text": ("a.npy", lambda path: np.save(path, np.full((20, 24), "a"))),
    "NPZ of 2 GiB named NPY": ("a.npy", _npz),
    "PNG of 30,000 x 30,000 pixels": ("a.png", png(30_000, 30_000, rows=30_000)),
    "PNG of 16 bits and color, 9,000 x 9,000": ("a.png", png(9_000, 9_000, 16, 2, rows=9_000)),
    "PNG whose header states 2 billion a side": ("a.png", png(2**31 - 1, 2**31 - 1)),
    "PNG with a compressed text of 256 MiB": ("a.png", png(20, 24, rows=24, more=_text_bomb())),
    "PNG broken off": ("a.png", _truncated),
    "sparse PNG of 12 GB": ("a.png", sparse(12 << 30, b"\x89PNG\r\n\x1a\n")),
    "JPEG whose header states 65,500 a side": ("a.jpg", _jpeg),
    "deflated TIFF of 20,000 x 20,000 pixels": ("a.tif", tiff(20_000, 20_000)),
    "deflated TIFF of 64-bit floats, 11,000 a side": ("a.tif", tiff(11_000, 11_000, 64, 3)),
    "TIFF that is its own next image": ("a.tif", tiff(20, 24, loop=True)),
    "sparse TIFF of 12 GB": ("a.tif", sparse(12 << 30, b"II*\0\x08\0\0\0\xff\xff")),
    "empty PNG": ("a.png", lambda path: path.write_bytes(b"")),
    "empty DICOM": ("a.dcm", lambda path: path.write_bytes(b"")),
    "pipe as film": ("a.png", lambda path: os.mkfifo(path)),
    "link to /dev/zero as film": ("a.dcm", lambda path: path.symlink_to("/dev/zero")),
    "link to a missing file": ("a.png", lambda path: path.symlink_to("absent")),
    "link to itself": ("a.png", lambda path: path.symlink_to(path.name)),
    "name that is not UTF-8, film damaged": (
        os.fsdecode(b"\xff\xfe.png"),
        lambda path: path.write_bytes(b"a"),
    ),
}


def _unknown_syntax(path: Path) -> None:
    with pydicom.config.disable_value_validation():
        dicom_file = _header(picture(), UID("1.2.3.4"), PixelData=picture().tobytes())
        dicom_file["PixelData"].VR = "OW"
        dicom_file.save_as(path, implicit_vr=False, little_endian=True)


# The same where the film is as good as the other one.
GOOD_FILMS: dict[str, tuple[str, Write]] = {
    "DICOM spacing blank": ("a.dcm", dicom_spacing("  ")),
    "DICOM of sequences 2,000 deep": ("a.dcm", _nested_dicom),
    "NPY in Fortran order": ("a.npy", lambda path: np.save(path, np.asfortranarray(picture()))),
    "folder named like a PNG": ("a.png", lambda path: path.mkdir()),
    "link to a film elsewhere": ("a.png", lambda path: _linked(path)),
    "suffix in capitals": ("a.PNG", _image(picture(1))),
    "name that is not UTF-8": (os.fsdecode(b"\xff\xfe.png"), _image(picture(1))),
    "name with a line feed and an escape": ("a\n\x1b[2J.png", _image(picture(1))),
    "folder that links to itself": ("loop", lambda path: path.symlink_to(".", target_is_directory=True)),
}


def _linked(path: Path) -> None:
    _image(picture(1))(path.parents[1] / "elsewhere.png")
    path.symlink_to(path.parents[1] / "elsewhere.png")


def _film(name: str, write: Write) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "films").mkdir()
        write(folder / "films" / name)
        return predict(folder)

    return make


def _films(*images: str) -> Callable[[Path], list[str]]:
    return lambda folder: predict(folder, "films/good.png", *images)


def _kinds() -> Iterator[Kind]:
    for kind, (name, write) in FILMS.items():
        mention = "udcff" if not name.isascii() else name
        yield Kind(f"film: {kind}", _film(name, write), "reported", mention)
    for kind, (name, write) in GOOD_FILMS.items():
        yield Kind(f"film: {kind}", _film(name, write), "works")
    yield Kind("film: path of 5,000 characters", _films("films/" + "a" * 5000 + ".png"), "reported", "aaa")
    yield Kind("film: a device by name", _films("/dev/zero"), "reported", "/dev/zero")
    yield Kind("film: no such file", _films("films/absent.png"), "reported", "absent.png")


KINDS = tuple(_kinds())
