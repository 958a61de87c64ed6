"""Write files that appear whole or not at all: a reader finds the old file or the new one, never half of one."""

import json
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> Path:
    """Write text in UTF-8 to a hidden file beside `path`, then rename it.

    Args:
        path: the file; its folder exists.
        text: its content.

    Returns:
        `path`.
    """
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(path)


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON value with sorted keys.

    Args:
        path: the file; its folder exists.
        value: of dicts, lists, strings, numbers, booleans and None.

    Returns:
        `path`.

    Raises:
        ValueError: a number is NaN or infinite, which JSON lacks.
    """
    return write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")
