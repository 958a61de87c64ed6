import struct
import zlib

import cv2
import numpy as np
import pytest

from kneefair_jax.data import readers
from kneefair_jax.data.readers import png
from kneefair_jax.errors import InputError

RNG = np.random.default_rng(0)


def write(path, rows, channels, filters=None, interlace=0, width=None):
    """A PNG of 16 bits whose filtered bytes are given, or u16[H, W, channels] with the filters of its rows."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    colour = {2: 4, 3: 2, 4: 6}[channels]
    raw = rows.astype(">u2").view(np.uint8).reshape(len(rows), -1).astype(int)
    size = 2 * channels
    lines = []
    for y, kind in enumerate(filters):
        up = raw[y - 1] if y else np.zeros_like(raw[0])
        left, both = (np.concatenate([np.zeros(size, int), row[:-size]]) for row in (raw[y], up))
        guess = left + up - both
        to_left, to_up, to_both = abs(guess - left), abs(guess - up), abs(guess - both)
        paeth = np.where(
            (to_left <= to_up) & (to_left <= to_both), left, np.where(to_up <= to_both, up, both)
        )
        predicted = [0 * left, left, up, (left + up) // 2, paeth][kind]
        lines.append(bytes([kind]) + ((raw[y] - predicted) % 256).astype(np.uint8).tobytes())
    data = zlib.compress(b"".join(lines))
    head = struct.pack(">IIBBBBB", width or rows.shape[1], len(rows), 16, colour, 0, 0, interlace)
    half = len(data) // 2
    parts = [
        chunk(b"IHDR", head),
        chunk(b"IDAT", data[:half]),
        chunk(b"IDAT", data[half:]),
        chunk(b"IEND", b""),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("shape", [(15, 9), (1, 7), (8, 1)])
def test_every_filter(tmp_path, channels, shape):
    pixels = RNG.integers(0, 2**16, (*shape, channels)).astype(np.uint16)
    path = write(tmp_path / "a.png", pixels, channels, [y % 5 for y in range(shape[0])])
    image, _ = readers.read_image(path)
    np.testing.assert_array_equal(image, pixels[..., : 1 if channels == 2 else 3])
    if channels > 2:
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read[..., [2, 1, 0]], pixels[..., :3])


def test_labels_beside_alpha(tmp_path):
    labels = RNG.integers(0, 5, (6, 7, 2)).astype(np.uint16)
    path = write(tmp_path / "a.png", labels, 2, [4] * 6)
    np.testing.assert_array_equal(readers.read_mask(path), labels[..., 0])


def test_interlaced_and_truncated_files_are_refused(tmp_path):
    pixels = RNG.integers(0, 2**16, (6, 7, 3)).astype(np.uint16)
    path = write(tmp_path / "interlaced.png", pixels, 3, [0] * 6, interlace=1)
    with pytest.raises(InputError, match=r"interlaced\.png.*export"):
        png.read_deep(path, png.header(path))
    path = write(tmp_path / "short.png", pixels, 3, [0] * 6, width=8)
    with pytest.raises(InputError, match=r"short\.png.*export"):
        readers.read_image(path)
