"""Finds what identifies a patient in text, and replaces patients' identifiers by pseudonyms.

Identifiers come from DICOM headers and from the user's table. A text is refused if it contains one, in any case of
letters, with or without accents and separators. A short identifier, as `7` or `Li`, counts only as a whole word.
"""

import hashlib
import hmac
import itertools
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator

SHORTEST_PART = 4  # characters from which an identifier is found inside a word too
_LENGTH = 8  # letters of a pseudonym: 2e11 different ones
_UMLAUTS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ø": "oe", "æ": "ae", "å": "aa", "ł": "l"}
)
# What de-identification writes in place of an ID or a name.
_PLACEHOLDER = re.compile(
    r"(anonym\w*|anon|anonimo|de-?identified|removed|redacted|unknown|unbekannt|none|null|n/?a|no ?name|x{2,}|0+|-+"
    r"|patient|subject|test)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+|\d+")


class Identifiers:
    """A set of identifiers of all patients of a cohort.

    Attributes:
        words: short identifiers, found as whole words.
        parts: longer identifiers, found inside words too.
    """

    def __init__(self) -> None:
        self.words: set[str] = set()
        self.parts: set[str] = set()
        self._lengths: dict[str, set[int]] = {}  # of the parts, by their first two characters

    def add(self, text: str) -> None:
        """Add an identifier: a patient's ID, an accession number, an address."""
        for form in _spellings(text):
            compact = "".join(_words(form))
            # A script without spaces, as of 山田, writes names inside longer words.
            if len(compact) >= SHORTEST_PART or (len(compact) > 1 and not compact.isascii()):
                self.parts.add(compact)
                self._lengths.setdefault(compact[:2], set()).add(len(compact))
            elif compact:
                self.words.add(compact)

    def add_name(self, text: str) -> None:
        """Add each part of a name, and two parts as one word; single letters and placeholders identify nobody."""
        if is_placeholder(text):
            return
        for representation in text.split("="):  # by letters, by ideographs, by sounds (PS3.5, 6.2.1)
            parts = [part for part in re.split(r"[\s^,;.&/\\_-]+", representation) if len(part) > 1]
            for part in parts:
                self.add(part)
            for first, second in itertools.permutations(parts[:4], 2):
                self.add(first + second)

    def add_date(self, text: str) -> None:
        """Add a date with the year first, in the orders and lengths in which people write dates."""
        digits = re.sub(r"\D", "", text)[:8]
        if len(digits) != len("19600321"):
            return
        year, month, day = digits[:4], digits[4:6], digits[6:]
        orders = [(year, month, day), (day, month, year), (month, day, year)]
        orders += [(year[2:], month, day), (day, month, year[2:]), (month, day, year[2:])]
        orders += [(day.lstrip("0"), month.lstrip("0"), year), (month.lstrip("0"), day.lstrip("0"), year)]
        for order in orders:
            self.add("".join(order))

    def found_in(self, text: str) -> bool:
        """Return whether a text contains an identifier."""
        for form in _spellings(text):
            words = _words(form)
            chunks = re.split(r"[\W_]+", form)  # `7a` is a word, and so are `7` and `a` in it
            compact = "".join(words)
            if not self.words.isdisjoint([*words, *chunks]) or any(
                compact[start : start + length] in self.parts
                for start in range(len(compact) - 1)
                for length in self._lengths.get(compact[start : start + 2], ())
            ):
                return True
        return False


def is_placeholder(text: str) -> bool:
    """Return whether an ID or a name states no patient: `ANONYMOUS`, `0000`."""
    return not text.strip() or bool(_PLACEHOLDER.fullmatch(text.strip(" ^\t")))


def pseudonyms(patients: Iterable[str], key: bytes, identifiers: Identifiers) -> dict[str, str]:
    """Return patient -> pseudonym, eight letters of a keyed hash (HMAC-SHA-256, RFC 2104).

    The same key gives a patient the same pseudonym. Nobody without the key can compute it from an identifier.

    Args:
        patients: identifiers of the patients.
        key: secret bytes, which the caller does not store with the pseudonyms.
        identifiers: a pseudonym that contains one is replaced.
    """
    result: dict[str, str] = {}
    used: set[str] = set()
    for patient in sorted(set(patients)):  # the same collisions in every order of the films
        result[patient] = next(
            name for name in _candidates(patient, key) if name not in used and not identifiers.found_in(name)
        )
        used.add(result[patient])
    return result


def _candidates(patient: str, key: bytes) -> Iterator[str]:
    for attempt in range(1000):
        digest = hmac.new(key, f"{attempt}\0{patient}".encode(), hashlib.sha256).digest()
        number = int.from_bytes(digest[:8], "big")
        letters = []
        for _ in range(_LENGTH):
            number, letter = divmod(number, len(string.ascii_lowercase))
            letters.append(string.ascii_lowercase[letter])
        yield "".join(letters)


def _spellings(text: str) -> set[str]:
    """Return a text in lower case without accents: `Müller` as `muller` and as `mueller`."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    variants = (folded, folded.translate(_UMLAUTS))
    return {
        "".join(c for c in unicodedata.normalize("NFKD", variant) if not unicodedata.combining(c))
        for variant in variants
    }


def _words(text: str) -> list[str]:
    return _WORD.findall(text)
