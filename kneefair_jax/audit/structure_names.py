"""Names in a score table that are no structures: the background, averages, and statistics beside the structures."""

import re
from collections.abc import Iterable, Sequence

from kneefair_jax.data import identifiers

_BACKGROUND = re.compile(
    r"((class|label|structure|channel|index|value)[\s_-]*)?0+|back[\s_-]?ground|bg|void|unlabell?ed|ignored?"
)
_AVERAGES = frozenset({"macro", "mean", "average", "avg", "overall", "micro", "weighted"})
# Unions of structures: the only structure of some tables, an average of the others'.
_UNIONS = frozenset({"foreground", "fg", "all", "total", "any"})
_STATISTIC = re.compile(
    r"std|sd|stdev|stddev|deviation|sem|var|variance|min|minimum|max|maximum|median|iqr|ci|ci95|q[1-4]|p[0-9]{1,2}"
    r"|percentile|quantile"
)
_WHOLE_STATISTICS = frozenset(
    {
        "n",
        "count",
        "se",
        "cv",
        "range",
        "rank",
        "sum",
        "lower",
        "upper",
        "low",
        "high",
        "lo",
        "hi",
        "worst",
        "best",
    }
)
_WHY = {
    "background": "the background is no structure",
    "average": "a case's macro score is the mean over its structures",
    "statistic": "a statistic of scores is no score of a structure",
}
_TITLES = {
    "background": "the background of the table",
    "average": "the table's own averages",
    "statistic": "the table's own statistics",
}


def excluded(names: Iterable[str]) -> dict[str, str]:
    """Return the names that are no structures, each with its kind: background, average or statistic.

    Args:
        names: of a column `structure`, or of columns `dice_<name>`.
    """
    names = list(dict.fromkeys(names))
    known = {_plain(name) for name in names}
    kinds = {name: kind for name in names if (kind := _kind(name, known))}
    others = [name for name in names if name not in kinds and _plain(name) not in _UNIONS]
    unions = {name: "average" for name in names if others and _plain(name) in _UNIONS}
    return kinds | unions


def notes(kinds: dict[str, str]) -> list[str]:
    """Return a note for each kind of excluded name."""
    lines = []
    for kind, title in _TITLES.items():
        named = sorted(name for name, of in kinds.items() if of == kind)
        if named:
            be = "is" if kind == "background" else "are"
            lines.append(f"{title} ({', '.join(named)}) {be} left out: {_WHY[kind]}")
    return lines


def _kind(name: str, known: set[str]) -> str:
    plain = _plain(name)
    if _BACKGROUND.fullmatch(plain):
        return "background"
    if plain in _WHOLE_STATISTICS:
        return "statistic"
    words = re.split(r"[\s_.-]+", plain)
    if any(_STATISTIC.fullmatch(word) for word in (words[0], words[-1])):
        return "statistic"
    if set(words) <= _AVERAGES | _UNIONS and set(words) & _AVERAGES:
        return "average"
    # `femur_mean` beside `femur` is an average; alone, it is the femur's score.
    ends: Sequence[tuple[str, str]] = (
        (words[0], plain[len(words[0]) + 1 :]),
        (words[-1], plain[: -len(words[-1]) - 1]),
    )
    return "average" if any(word in _AVERAGES and rest in known for word, rest in ends) else ""


def _plain(name: str) -> str:
    return identifiers.canonical(name)
