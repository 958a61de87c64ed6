"""Find names in a score table that are no structures: the background, averages, and statistics."""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping

from kneefair_jax.data import identifiers
from kneefair_jax.report.text import formatting

type _Words = tuple[str, ...]

# `meanDice` is two words, `mIoU` and `IoU` are one.
_CAMEL = re.compile(r"(?<=[a-z]{2})(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(
    r"(?<![^\W\d_])(?:p|q|ci|hd)\d+(?:\.\d+)?(?![^\W_])|\d+(?:\.\d+)?(?: ?%)?|[^\W\d_]+", re.IGNORECASE
)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_BACKGROUND = frozenset(
    {"background", "bg", "hintergrund", "void", "unlabeled", "unlabelled", "ignore", "ignored"}
)
_INDEX = frozenset({"class", "label", "structure", "channel", "index", "value"})
_SCORES = frozenset(
    {
        "dice",
        "dsc",
        "iou",
        "jaccard",
        "hd",
        "hd95",
        "assd",
        "nsd",
        "coefficient",
        "coeff",
        "similarity",
        "score",
    }
)
_COLLECTIVE = frozenset({"scores", "bones", "classes", "labels", "structures", "values"})
# These words do not change the meaning of a name: `mean_dice`, `mean over all structures`.
_NEUTRAL = _INDEX | _SCORES | _COLLECTIVE | {"of", "over", "across", "the", "per", "for", "and"}
_AVERAGES = frozenset({"macro", "mean", "average", "avg", "overall", "micro", "weighted"}) | {
    f"m{score}" for score in _SCORES
}
# Unions of structures: in some tables the only structure, in others an average.
_UNIONS = frozenset({"foreground", "fg", "all", "total", "any"})
_WITHOUT = frozenset({"no", "non", "not", "without", "excluding", "excl", "except"})
_STATISTIC = re.compile(
    r"std|sd|stdev|stddev|standard|deviation|sem|se|error|cv|var|variance|min|minimum|max|maximum|median|iqr|range|rank"
    r"|sum|n|count|worst|best|bound|limit|interval|confidence|ci|ci[0-9.]+|percentiles?|quantiles?|quartiles?"
    r"|p[0-9]*[0-9.][0-9]|[0-9.]+ ?%"
)
# Numbers beside these words belong to them: `5th percentile`, `mean of 4 classes`.
_COUNTED = re.compile(r"ci|interval|percentiles?|quantiles?|quartiles?|" + "|".join(_COLLECTIVE))
_ORDINALS = frozenset({"st", "nd", "rd", "th"})
# Statistics beside the name of a score or a structure; structures otherwise, such as the phalanges P1 and P2.
_WEAK = re.compile(r"low|lower|lo|high|upper|hi|p[0-9]|q[1-4]")
_REASONS = {
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

    A name is judged by its words. Words for an average or a statistic beside the words of another structure make a name
    excluded only where that structure is among the names: `femur_low` beside `femur`, and not `median nerve`.

    Args:
        names: of a column `structure`, or of columns `dice_<name>`.
    """
    words = {name: _words(name) for name in dict.fromkeys(names)}
    structures = {_core_words(of_name) for of_name in words.values()}
    averaged = {
        _core_words(of_name)[i:j]
        for of_name in words.values()
        for i, j in _cores(_core_words(of_name), _is_average)
    }
    kinds = {name: kind for name, of_name in words.items() if (kind := _kind(of_name, structures, averaged))}
    unions = {name: "average" for name, of_name in words.items() if name not in kinds and _is_union(of_name)}
    return kinds if len(kinds) + len(unions) == len(words) else kinds | unions


def suggestion(headers: Iterable[str]) -> str:
    """Return `; rename 'Femur Dice' to 'dice_femur'` for the first header with Dice and a structure; "" without one.

    >>> suggestion(["case_id", "Femur Dice"])
    "; rename 'Femur Dice' to 'dice_femur'"
    """
    for header in headers:
        words = _words(header)
        rest = "_".join(word for word in words if word not in ("dice", "dsc"))
        if rest and len(rest.split("_")) < len(words):
            return f"; rename {header!r} to 'dice_{rest}'"
    return ""


def notes(kinds: Mapping[str, str], rows: Mapping[str, int]) -> list[str]:
    """Return a note for each kind of excluded name, and one on structures whose names could be a statistic's.

    Args:
        kinds: of `excluded`.
        rows: name -> rows of the table that hold it, of all names.
    """
    lines = []
    for kind, title in _TITLES.items():
        names = sorted(name for name, of_name in kinds.items() if of_name == kind)
        if names:
            verb = "is" if kind == "background" else "are"
            counts = ", ".join(f"{name} in {formatting.amount(rows[name], 'row')}" for name in names)
            lines.append(f"{title} ({counts}) {verb} excluded: {_REASONS[kind]}")
    structures = {name: _words(name) for name in rows if name not in kinds}
    if unclear := sorted(
        name for name, words in structures.items() if words and all(map(_WEAK.fullmatch, words))
    ):
        verb = "count as structures" if len(unclear) > 1 else "counts as a structure"
        lines.append(f"{formatting.listing(unclear)} {verb}; remove bounds and quantiles of scores")
    return lines


def _kind(words: _Words, structures: Collection[_Words], averaged: Collection[_Words]) -> str:
    """Return background, average or statistic; "" for the name of a structure."""
    numbers = {word for word in words if _NUMBER.fullmatch(word)}
    rest = set(words) - numbers - _INDEX - _SCORES
    if rest <= _BACKGROUND and (rest or (numbers and not any(map(float, numbers)))):
        return "background"
    core = _core_words(words)
    marks = [word for word in core if _is_statistic(word)]
    if marks and all(map(_is_mark, core)):
        # `lower` alone is a structure, `lower Dice` and `ci_lower` are bounds.
        has_score = any(map(_is_average, words)) or not _SCORES.isdisjoint(words)
        return "statistic" if has_score or not all(map(_WEAK.fullmatch, marks)) else ""
    if any(map(_is_average, core)) and {word for word in core if not _is_average(word)} <= (
        _UNIONS | _BACKGROUND | _WITHOUT
    ):
        return "average"
    # `femur_mean` beside `femur` is an average; alone, it is the femur's score.
    for i, j in _cores(core, _is_mark):
        if any(map(_is_statistic, core[:i] + core[j:])):
            if core[i:j] in structures or core[i:j] in averaged:
                return "statistic"
        elif core[i:j] in structures:
            return "average"
    return ""


def _is_union(words: _Words) -> bool:
    core = set(_core_words(words))
    return bool(core) and (
        core <= _UNIONS or (core <= _UNIONS | _WITHOUT | _BACKGROUND and not core.isdisjoint(_WITHOUT))
    )


def _cores(core: _Words, is_mark: Callable[[str], bool]) -> list[tuple[int, int]]:
    """Return the bounds of a name without some of the marks before and after it, at least one of them."""
    first = next((i for i, word in enumerate(core) if not is_mark(word)), len(core))
    last = next((j for j in range(len(core), 0, -1) if not is_mark(core[j - 1])), 0)
    return [
        (i, j)
        for i in range(first + 1)
        for j in range(last, len(core) + 1)
        if i < j and (i, j) != (0, len(core))
    ]


def _is_average(word: str) -> bool:
    return word in _AVERAGES


def _is_statistic(word: str) -> bool:
    return bool(_STATISTIC.fullmatch(word) or _WEAK.fullmatch(word))


def _is_mark(word: str) -> bool:
    return _is_average(word) or _is_statistic(word)


def _core_words(words: _Words) -> _Words:
    """Return the words without neutral ones and without numbers that count or rank."""
    counted = any(map(_COUNTED.fullmatch, words))
    return tuple(
        word
        for word in words
        if word not in _NEUTRAL and not (counted and (_NUMBER.fullmatch(word) or word in _ORDINALS))
    )


def _words(name: str) -> _Words:
    text = _CAMEL.sub(" ", identifiers.visible(unicodedata.normalize("NFKC", name)))
    text = re.sub(r"\bback[\s_-]+ground\b", "background", text, flags=re.IGNORECASE)
    return tuple(word.casefold() for word in _WORD.findall(text.replace("_", " ")))
