"""State the origin of a result: the day, and the digests of the files that were read."""

import datetime
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def today() -> str:
    """Return the date in UTC, `2026-11-26`; that of `SOURCE_DATE_EPOCH` where it is set, so that builds repeat."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    zone = datetime.UTC
    moment = (
        datetime.datetime.fromtimestamp(int(epoch), zone) if epoch.isdigit() else datetime.datetime.now(zone)
    )
    return moment.date().isoformat()


def file_digests(paths: Iterable[object]) -> dict[str, str]:
    """Return file name -> SHA-256 of each path that is a file; folders and tables in memory are omitted."""
    digests = {}
    for path in paths:
        if isinstance(path, str | Path) and Path(path).is_file():
            with Path(path).open("rb") as file:
                digests[Path(path).name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
