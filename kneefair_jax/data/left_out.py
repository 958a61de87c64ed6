"""What a cohort leaves out, and why: said in the terminal, listed in the run's folder."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

# What was left out (a case, a film, a row of a table), and why.
LeftOut = tuple[str, str]

_SHOWN = 5


def text(left_out: Sequence[LeftOut], table: Path) -> str:
    """How much was left out for which reason, the most frequent first; `table` is where all of it is listed."""
    reasons = Counter(_reason(why) for _, why in left_out).most_common()
    lines = [f"left out: {len(left_out)} (listed in {table.name})"]
    lines += [f"{count:>6} x {reason}" for reason, count in reasons[:_SHOWN]]
    if (more := len(reasons) - _SHOWN) > 0:
        lines.append(f"       and {more} more reasons")
    return "\n".join(lines)


def write(left_out: Sequence[LeftOut], table: Path) -> None:
    """A CSV file with the columns `what` and `why`; no file where nothing is left out."""
    if not left_out:
        table.unlink(missing_ok=True)
        return
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("what", "why"), *left_out])


def _reason(why: str) -> str:
    """`m.csv row 5: 3.png: unreadable file (truncated); export it again` -> `unreadable file`."""
    return re.sub(r" \([^()]*\)", "", why).split("; ")[0].rsplit(": ", 1)[-1]
