"""Names in a score table that are no structures: the background, averages, and statistics beside the structures."""

import re
from collections.abc import Iterable, Mapping, Sequence

from kneefair_jax.data import identifiers
from kneefair_jax.report.text import formatting

_BACKGROUND = re.compile(
    r"((class|label|structure|channel|index|value)[\s_-]*)?0+|back[\s_-]?ground|bg|void|unlabell?ed|ignored?"
)
# Words that change nothing of what a name means: `mean_dice`, `all structures`.
_NOUNS = frozenset(
    {"dice", "dsc", "iou", "jaccard", "score", "scores", "bones", "classes", "class", "labels", "structures"}
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
    unions = {name: "average" for name in names if name not in kinds and _is_union(name)}
    return kinds if len(kinds) + len(unions) == len(names) else kinds | unions


def notes(kinds: Mapping[str, str], rows: Mapping[str, int]) -> list[str]:
    """Return a note for each kind of excluded name.

    Args:
        kinds: of `excluded`.
        rows: name -> rows of the table that hold it.
    """
    lines = []
    for kind, title in _TITLES.items():
        named = sorted(name for name, of in kinds.items() if of == kind)
        if named:
            be = "is" if kind == "background" else "are"
            counted = ", ".join(f"{name} in {formatting.amount(rows[name], 'row')}" for name in named)
            lines.append(f"{title} ({counted}) {be} left out: {_WHY[kind]}")
    return lines


def _kind(name: str, known: set[str]) -> str:
    plain = _plain(name)
    if _BACKGROUND.fullmatch(plain):
        return "background"
    if plain in _WHOLE_STATISTICS:
        return "statistic"
    words = _words(plain)
    if any(_STATISTIC.fullmatch(word) for word in (words[0], words[-1])):
        return "statistic"
    if set(words) <= _AVERAGES | _UNIONS | _NOUNS and set(words) & _AVERAGES:
        return "average"
    # `femur_mean` beside `femur` is an average; alone, it is the femur's score.
    ends: Sequence[tuple[str, str]] = (
        (words[0], plain[len(words[0]) + 1 :]),
        (words[-1], plain[: -len(words[-1]) - 1]),
    )
    return "average" if any(word in _AVERAGES and rest in known for word, rest in ends) else ""


def _is_union(name: str) -> bool:
    words = set(_words(_plain(name)))
    return words <= _UNIONS | _NOUNS and bool(words & _UNIONS)


def _words(plain: str) -> list[str]:
    return re.split(r"[\s_.-]+", plain)


def _plain(name: str) -> str:
    return identifiers.canonical(name)
