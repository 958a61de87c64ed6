"""The words by which the names of folders and files mark masks, and the name of a mask without such a word."""

import re
from pathlib import PurePath

from kneefair_jax.data import readers

_WORDS = (
    "mask masks label labels labelstr labelsts seg segs segmentation segmentations annotation annotations groundtruth "
    "gt truth reference masken masques"
)
FOLDERS = frozenset(_WORDS.split())
_WORD = "|".join(sorted(FOLDERS, key=len, reverse=True))
_MARK = re.compile(rf"^(?:{_WORD})[-_. ]|(?:^|[-_. ])(?:{_WORD})$", re.IGNORECASE)


def stem(path: PurePath) -> str:
    """Return the name of a file without the ending of its format."""
    suffix = readers.suffix_of(path.name)
    return path.name.removesuffix(path.name[-len(suffix) :]) if suffix else path.name


def film_stem(path: PurePath) -> str:
    """Return the name of a mask without the ending of its format and a word such as `_mask`, as its film is named.

    >>> film_stem(PurePath("masks/a_mask.png")), film_stem(PurePath("mask.png"))
    ('a', 'mask')
    """
    name = stem(path)
    return _MARK.sub("", name, count=1) or name


def names_mask(path: PurePath) -> bool:
    """Return whether a folder of a path is one for masks, or its file's name begins or ends with such a word.

    >>> names_mask(PurePath("gt/a.png")), names_mask(PurePath("a_seg.png")), names_mask(PurePath("segond.png"))
    (True, True, False)
    """
    return any(part.lower() in FOLDERS for part in path.parent.parts) or bool(_MARK.search(stem(path)))
