"""Only regular files are opened, and sizes are checked before memory is taken."""

import io
import lzma
import os
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from benchmarks.hostile_inputs import image_files
from kneefair_jax.data import mask_files, palettes, readers
from kneefair_jax.data.readers import limits
from kneefair_jax.errors import InputError
from kneefair_jax.predict import films

# A few kB to a few MB on disk each; the sparse ones take no space.
TOO_LARGE = [
    "DICOM of 65,535 x 65,535 pixels",
    "sparse DICOM of 12 GB",
    "NIfTI of 32,767 x 32,767 pixels",
    "NIfTI of dimensions beyond 64 bits",
    "NIfTI whose pixels begin beyond the file",
    "sparse NPY of 6.6 GB",
    "NPY of 4 EB",
    "PNG whose header states 2 billion a side",
    "sparse PNG of 12 GB",
    "sparse TIFF of 12 GB",
    "JPEG whose header states 65,500 a side",
]
UNREADABLE = [
    "DICOM spacing with a decimal comma",
    "DICOM spacing of three values",
    "DICOM spacing is a word",
    "DICOM spacing 1e300",
    "DICOM of more rows than its pixels",
    "DICOM of fewer rows than its pixels",
    "DICOM of 10,000 frames",
    "DICOM of 7 bits allocated",
    "DICOM with a larger JPEG-LS inside",
    "DICOM with a larger JPEG 2000 inside",
    "DICOM with noise for RLE",
    "DICOM of an unknown transfer syntax",
    "NIfTI of dimension 0",
    "NIfTI of negative dimension",
    "NIfTI broken off",
    "NPY of Python objects",
    "NPY of four dimensions",
    "NPY of no dimension",
    "NPY shorter than its header says",
    "NPY of text",
    "PNG broken off",
    "empty PNG",
    "empty DICOM",
    "pipe as film",
    "link to /dev/zero as film",
    "link to a missing file",
    "link to itself",
]


@pytest.mark.parametrize("kind", TOO_LARGE + UNREADABLE)
def test_a_bad_file_is_refused_by_name_without_memory(tmp_path, kind):
    name, write = image_files.FILMS[kind]
    path = tmp_path / name
    write(path)
    tracemalloc.start()
    try:
        # A mask may be what a film is not, such as a picture without spacing, but never one of these.
        for read in (films.read, readers.read_mask, mask_files_read):
            with pytest.raises(InputError, match=name):
                read(path)
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


def mask_files_read(path):
    assert palettes.read(path) is None
    return mask_files.read(path, {})


@pytest.mark.parametrize("kind", [kind for kind in image_files.GOOD_FILMS if "folder" not in kind])
def test_an_odd_file_is_read(tmp_path, kind):
    (tmp_path / "films").mkdir()
    name, write = image_files.GOOD_FILMS[kind]
    write(tmp_path / "films" / name)
    assert films.read(tmp_path / "films" / name).image.shape == (24, 20, 1)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.dcm", image_files.deflated_dicom(20, 3)),
        ("a.nii.gz", image_files.nifti((20, 24), 3)),
        ("a.tif", image_files.tiff(2000, 2000, 32, 3)),
    ],
)
def test_compressed_files_stop_at_the_limit(tmp_path, name, write, monkeypatch):
    path = tmp_path / name
    write(path)
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(limits, "MOST_BYTES", 2 << 20)
    with pytest.raises(InputError, match=name):
        readers.read_image(path)


@pytest.mark.parametrize("bits", [8, 64])
def test_a_strip_that_expands_beyond_its_pixels_is_refused(tmp_path, monkeypatch, bits):
    """tifffile, which reads 64-bit samples, expands strips without a limit."""
    path = tmp_path / "a.tif"
    image_files.tiff(20, 24, bits, 3 if bits == 64 else 1)(path)
    content = path.read_bytes()
    bomb = zlib.compress(bytes(3 << 20))
    ifd = content[int.from_bytes(content[4:8], "little") :]
    ifd = ifd.replace(np.array([279, 4 << 16 >> 16], "<u2").tobytes(), np.array([279, 4], "<u2").tobytes())
    at = ifd.index(np.array([279, 4], "<u2").tobytes()) + 8
    ifd = ifd[:at] + len(bomb).to_bytes(4, "little") + ifd[at + 4 :]
    path.write_bytes(content[:4] + (8 + len(bomb)).to_bytes(4, "little") + bomb + ifd)
    monkeypatch.setattr(limits, "MOST_BYTES", 2 << 20)
    if bits == 64:
        with pytest.raises(InputError, match=r"a\.tif"):
            readers.read_image(path)
    else:  # libtiff stops at the pixels
        assert readers.read_image(path)[0].shape == (24, 20, 1)


@pytest.mark.parametrize("pack", [zlib.compress, lzma.compress])
def test_the_limit_of_expansion_is_exact(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(limits, "MOST_BYTES", 1000)
    of = {zlib.compress: zlib.decompressobj, lzma.compress: lzma.LZMADecompressor}[pack]
    limits.require_expandable(pack(bytes(1000)), of(), tmp_path)
    with pytest.raises(InputError):
        limits.require_expandable(pack(bytes(1001)), of(), tmp_path)
    assert limits.read(io.BytesIO(bytes(1000)), tmp_path) == bytes(1000)
    with pytest.raises(InputError):
        limits.read(io.BytesIO(bytes(1001)), tmp_path)


def test_the_limits_of_pixels_and_bytes_are_exact(tmp_path):
    limits.require_size(10_000, 5_000, 5, tmp_path)
    for rows, columns, pixel_bytes in ((10_000, 5_001, 1), (10_000, 5_000, 6), (0, 5, 1), (5, -1, 1)):
        with pytest.raises(InputError):
            limits.require_size(rows, columns, pixel_bytes, tmp_path)


def test_names_that_no_file_can_have(tmp_path):
    for name in ("a" * 300 + ".png", "a/" * 3000 + "a.png", "a\0.png"):
        assert not limits.is_present(tmp_path / name)
        with pytest.raises(InputError), limits.open_regular(tmp_path / name):
            pass
        with pytest.raises(InputError):
            readers.read_image(tmp_path / name)


def test_a_folder_and_a_socket_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(InputError, match="not a file"), limits.open_regular(path):
            pass


def test_a_film_that_another_replaces_while_it_is_read(tmp_path, monkeypatch):
    """One descriptor is read from first to last: the film is the one that was opened."""
    path, other = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(image_files.picture(1)).save(path)
    os.mkfifo(other)
    opened = Image.open

    def replace(*arguments, **options):
        os.replace(other, path)
        return opened(*arguments, **options)

    monkeypatch.setattr(Image, "open", replace)
    np.testing.assert_array_equal(readers.read_image(path)[0][..., 0], image_files.picture(1))
    with pytest.raises(InputError, match="not a file"):
        readers.read_image(path)


@pytest.mark.parametrize("suffix", [".npy", ".nii"])
def test_a_film_that_is_cut_off_while_it_is_read(tmp_path, monkeypatch, suffix):
    """A mapped file would end the process by SIGBUS."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, np.zeros((1000, 1000), np.uint8))
    else:
        image_files.nifti((1000, 1000), 1)(path)
    require = limits.require_size

    def cut(*arguments):
        require(*arguments)
        os.truncate(path, 500)

    monkeypatch.setattr(limits, "require_size", cut)
    with pytest.raises(InputError, match=path.name):
        readers.read_image(path)
