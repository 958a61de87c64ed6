"""Run folders, stores and files of somebody else that try to run code or to reach out of their folder."""

import json
import os
import sys
from pathlib import Path

# PostScript that Ghostscript would run; Pillow knows it by its first bytes, whatever the file is called.
POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 32 32
newpath 0 0 moveto 32 32 lineto stroke
showpage
"""


def plant_module(store: Path, beside: Path, name: str = "evil_features_module") -> Path:
    """Makes every `features.json` below a folder name a class of a module that writes a file when it is imported.

    Args:
        store: the folder.
        beside: where the module goes, and from where it can be imported.
        name: of the module.

    Returns:
        The file that the module would write.
    """
    trace = beside / "was_imported"
    (beside / f"{name}.py").write_text(f"open({str(trace)!r}, 'w').close()\nclass Evil: pass\n")
    for path in store.rglob("features.json"):
        features = json.loads(path.read_text())
        features["pythonClassName"] = f"{name}.Evil"
        path.write_text(json.dumps(features))
    sys.modules.pop(name, None)
    return trace


def redirect_records(store: Path) -> None:
    """Makes every `dataset_info.json` below a folder name record files outside of the store."""
    for path in store.rglob("dataset_info.json"):
        info = json.loads(path.read_text())
        info["splits"][0]["filepathTemplate"] = "../../../../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        path.write_text(json.dumps(info))


def link(path: Path, target: Path) -> None:
    """A symbolic link in place of a file or folder."""
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}.moved"))
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def pipe(path: Path) -> None:
    """A named pipe in place of a file: whoever opens it waits for the other end."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)
