"""The code blocks of README and of the documentation, and the files that their commands read."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests import films, oai_tree

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCE = re.compile(
    r"^(?:<!-- (executed by the slow tests|not executed: [^\n]+) -->\n)?```(\w*)\n(.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A code block: its language, its text, and the comment that says that it is slow or why it is not executed."""

    language: str
    text: str
    comment: str

    @property
    def is_slow(self) -> bool:
        """Return whether only the slow tests execute it."""
        return self.comment.startswith("executed")

    @property
    def is_executed(self) -> bool:
        """Return whether the tests execute it."""
        return not self.comment.startswith("not executed")


def blocks(page: Path, language: str) -> list[Block]:
    """Return the blocks of a page in one language."""
    return [block for block in _blocks(page) if block.language == language]


def _blocks(page: Path) -> Iterator[Block]:
    for comment, language, text in _FENCE.findall(page.read_text()):
        yield Block(language, text, comment)


def commands(page: Path) -> list[str]:
    """Return the `kneefair` commands of a page's executed blocks, each in one line."""
    texts = [block.text.replace("\\\n", " ") for block in blocks(page, "sh") if block.is_executed]
    return [line.partition("  #")[0].strip() for text in texts for line in text.splitlines() if line.strip()]


def workspace(folder: Path) -> Path:
    """Write the films that the commands read: `my_knees`, `clinic`, `films`, `dicom_films`, `knee.png`."""
    films.folder(folder / "my_knees", structures=4)
    films.folder(folder / "clinic", patient="q")
    (folder / "films").mkdir()
    rng = np.random.default_rng(0)
    for name in ("knee.png", "films/a.png", "films/b.png"):
        Image.fromarray(rng.integers(0, 255, (64, 48), dtype=np.uint8)).save(folder / name)
    oai_tree.write_film(folder / "dicom_films" / "a.dcm", oai_tree.film(0)[0])
    return folder
