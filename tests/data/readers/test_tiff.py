"""TIFF in every number type and polarity, against tifffile's and OpenCV's reading of the same files."""

import importlib.util
import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from kneefair_jax.data import palettes, readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import films

RNG = np.random.default_rng(0)
FILM = RNG.integers(0, 4096, (20, 28)).astype(np.uint16)
TYPES = [
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.int8,
    np.int16,
    np.int32,
    np.float16,
    np.float32,
    np.float64,
]


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True}])
def test_every_number_type_in_every_polarity(tmp_path, photometric, dtype, options):
    path, labels_path = tmp_path / "film.tif", tmp_path / "labels.tif"
    labels, film = (FILM % 5).astype(dtype), (FILM >> 6).astype(dtype)
    tifffile.imwrite(labels_path, labels, photometric=photometric, **options)
    tifffile.imwrite(path, film, photometric=photometric, **options)
    np.testing.assert_array_equal(tifffile.imread(labels_path), labels)
    np.testing.assert_array_equal(readers.read_mask(labels_path), labels)
    image = readers.read_image(path)[0][..., 0].astype(np.float64)
    rises = photometric == "minisblack"
    steps = image - film.astype(float) if rises else image + film.astype(float)
    assert np.ptp(steps) == 0
    assert films.read(path).image.shape == (20, 28, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float32])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True}])
@pytest.mark.parametrize("planar", [False, True])
def test_color_keeps_its_depth(tmp_path, dtype, channels, options, planar):
    film = np.stack([FILM >> 6, FILM >> 5, FILM >> 7, FILM >> 8][:channels]).astype(dtype)
    film = film if planar else np.moveaxis(film, 0, -1)
    if np.dtype(dtype).itemsize > 1:
        film = film * dtype(4) + dtype(1)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    config = "separate" if planar else "contig"
    path = tmp_path / "film.tif"
    tifffile.imwrite(path, film, photometric="rgb", planarconfig=config, **extra, **options)
    read = tifffile.imread(path)
    expected = (np.moveaxis(read, 0, -1) if planar else read)[..., :3]
    image, _ = readers.read_image(path)
    np.testing.assert_array_equal(image, expected)
    if dtype in (np.uint8, np.uint16):
        assert image.dtype == dtype
    if dtype == np.uint16 and not planar:
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., 2::-1], expected)
    with pytest.raises(InputError, match=r"film\.tif.*export"):
        readers.read_mask(path)


def write_packed(path, pixels, bits, white, colors=None):
    """TIFF of any depth, which tifffile writes only with imagecodecs: gray, or a palette of u16[2**bits, 3]."""
    flat = (pixels[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(len(pixels), -1)
    data = np.packbits(flat, axis=1).tobytes()
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: int(not white), 273: 8, 277: 1, 278: height}
    tags |= {279: len(data)}
    entries = [struct.pack("<HHII", code, 4, 1, value) for code, value in tags.items()]
    if colors is not None:
        entries[4] = struct.pack("<HHII", 262, 4, 1, 3)
        entries.append(struct.pack("<HHII", 320, 3, colors.size, 8 + len(data)))
        data += colors.astype("<u2").T.tobytes()
    ifd = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    path.write_bytes(struct.pack("<4sI", b"II*\0", 8 + len(data)) + data + ifd)
    return path


@pytest.mark.parametrize("white", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_samples_that_fill_no_bytes(tmp_path, bits, white):
    """Pillow opens 2 and 4 bits, and 12 if MinIsBlack; tifffile needs imagecodecs for the others."""
    film, labels = FILM % 2**bits, FILM % 4
    path = write_packed(tmp_path / "film.tif", film, bits, white)
    label_path = write_packed(tmp_path / "labels.tif", labels, bits, white)
    opened = bits < 8 or (bits == 12 and not white)
    if not opened and importlib.util.find_spec("imagecodecs") is None:
        for read in (readers.read_image, readers.read_mask):
            with pytest.raises(
                InputError, match=rf"film\.tif: TIFF of {bits} bits; export it in 8 or 16 bits"
            ):
                read(path)
        return
    np.testing.assert_array_equal(readers.read_mask(label_path), labels)
    image = readers.read_image(path)[0][..., 0].astype(int)
    steps = np.diff(np.unique(image))
    assert len(np.unique(image)) == 2**bits if bits < 8 else len(np.unique(image)) == len(np.unique(film))
    expected = (2**bits - 1 - film if white else film).astype(int)
    np.testing.assert_array_equal(image - image.min(), (expected - expected.min()) * steps.min())
    if opened and bits < 8:
        shown = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert shown is None or np.corrcoef(shown.ravel(), image.ravel())[0, 1] > 0.999


MASK = np.zeros((64, 64), np.uint8)
MASK[10:20, 10:20], MASK[30:50, 8:40], MASK[52:60, 8:20] = 1, 2, 3


@pytest.mark.parametrize("white", [False, True])
def test_a_mask_of_one_bit_is_as_stored(tmp_path, white):
    """tifffile writes boolean arrays as MinIsWhite unless it is told otherwise."""
    mask = MASK == 1
    packed = write_packed(tmp_path / "packed.tif", mask.astype(np.uint8), 1, white)
    np.testing.assert_array_equal(readers.read_mask(packed), mask)
    assert readers.read_image(packed)[0][0, 0, 0] == (255 if white else 0)
    tifffile.imwrite(tmp_path / "bool.tif", mask)
    assert readers.read_mask(tmp_path / "bool.tif").sum() == 100


@pytest.mark.parametrize("codec", ["jpeg", "tiff_jpeg", "webp"])
def test_a_mask_in_a_lossy_compression_is_refused(tmp_path, codec):
    path = tmp_path / "mask.tif"
    Image.fromarray(MASK).save(path, compression="jpeg")
    assert readers.read_image(path)[0].shape == (64, 64, 1)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags["Compression"].overwrite({"jpeg": 7, "tiff_jpeg": 6, "webp": 50001}[codec])
    with pytest.raises(
        InputError, match=r"mask\.tif: TIFF with \w+ compression may be lossy.*export the mask as PNG"
    ):
        readers.read_mask(path)
    tifffile.imwrite(tmp_path / "deep.tif", MASK.astype(np.int64))  # which Pillow does not open
    with tifffile.TiffFile(tmp_path / "deep.tif", mode="r+") as tiff:
        tiff.pages.first.tags["Compression"].overwrite(34712)
    with pytest.raises(InputError, match=r"deep\.tif: TIFF with JPEG 2000 compression may be lossy"):
        readers.read_mask(tmp_path / "deep.tif")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_mask_of_every_depth_has_its_indices(tmp_path, bits):
    mask = MASK & (2**bits - 1)
    colors = np.zeros((2**bits, 3), np.uint16)
    colors[1:4] = np.array([[65535, 0, 0], [0, 65535, 0], [0, 0, 65535]])[: len(colors) - 1]
    path = write_packed(tmp_path / "mask.tif", mask, bits, white=False, colors=colors)
    np.testing.assert_array_equal(readers.read_mask(path), mask)
    assert readers.read_image(path)[0][12, 12].tolist() == [255, 0, 0]
    np.testing.assert_array_equal(palettes.read(path)[: len(colors)], colors >> 8)


@pytest.mark.parametrize("compression", [1, 5, 8])  # none, LZW, deflate
def test_color_that_opencv_writes(tmp_path, compression):
    """tifffile decodes LZW where imagecodecs is installed."""
    film = np.stack([FILM, FILM + 1, FILM * 2], axis=-1).astype(np.uint16)
    path = tmp_path / "film.tif"
    cv2.imwrite(str(path), film[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    if compression == 5 and importlib.util.find_spec("imagecodecs") is None:
        with pytest.raises(InputError, match=r"film\.tif.*LZW.*export"):
            readers.read_image(path)
        return
    np.testing.assert_array_equal(readers.read_image(path)[0], film)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_of_gray_is_dropped(tmp_path, photometric, dtype):
    labels = np.stack([FILM % 5, FILM % 7], axis=-1).astype(dtype)
    path = tmp_path / "labels.tif"
    tifffile.imwrite(
        path, labels, photometric=photometric, planarconfig="contig", extrasamples=["unassalpha"]
    )
    np.testing.assert_array_equal(readers.read_mask(path), labels[..., 0])


@pytest.mark.parametrize("number", range(1, 9))
def test_the_orientation_of_a_file_that_pillow_does_not_open(tmp_path, number):
    tag = [(274, "H", 1, number, True)]
    tifffile.imwrite(tmp_path / "film.tif", FILM.astype(np.int16), photometric="miniswhite", extratags=tag)
    Image.fromarray(FILM).save(tmp_path / "pillow.tif", tiffinfo={274: number})
    image = readers.read_radiograph(tmp_path / "film.tif")
    expected = readers.read_radiograph(tmp_path / "pillow.tif")
    np.testing.assert_array_equal(-image.pixels, expected.pixels)
    assert image.orientation == expected.orientation


def test_a_palette_of_16_bits_pages_and_damage_are_refused(tmp_path):
    colormap = RNG.integers(0, 2**16, (3, 2**16)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "palette.tif", FILM, photometric="palette", colormap=colormap)
    color = np.stack([FILM] * 3, axis=-1)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        for _ in range(2):
            writer.write(color.astype(np.int16), photometric="rgb", metadata=None)
    tifffile.imwrite(tmp_path / "whole.tif", color, photometric="rgb")
    (tmp_path / "short.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:-900])
    (tmp_path / "header.tif").write_bytes(b"II*\0" + b"\xff" * 40)
    with tifffile.TiffFile(tmp_path / "whole.tif") as whole:
        tags = {tag.name: tag.offset for tag in whole.pages.first.tags}  # of its code, type, count and value
    for name, start, stop, value in (
        ("PhotometricInterpretation", 0, 2, 65000),  # another tag
        ("StripByteCounts", 8, 12, 0),
    ):
        damaged = bytearray((tmp_path / "whole.tif").read_bytes())
        damaged[tags[name] + start : tags[name] + stop] = value.to_bytes(stop - start, "little")
        (tmp_path / f"{name}.tif").write_bytes(damaged)
    for name in ("palette", "pages", "short", "header", "PhotometricInterpretation", "StripByteCounts"):
        with pytest.raises(InputError, match=rf"{name}\.tif.*(export|give one image)"):
            readers.read_image(tmp_path / f"{name}.tif")


def test_a_file_larger_than_its_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "huge.tif"
    tifffile.memmap(path, shape=(20_000, 20_000), dtype=np.int8, photometric="miniswhite").flush()
    for read in (readers.read_image, films.read):
        with pytest.raises(InputError, match=r"huge\.tif.*381 MiB"):
            read(path)
