"""Finds what identifies a patient in text and in clinical tables, and replaces patients' identifiers by pseudonyms.

Identifiers come from DICOM headers and from the user's table. A text is refused if it contains one, in any case of
letters, with or without accents and separators. A short identifier, as `7` or `Li`, counts only as a whole word.
Numbers are compared with and without leading zeros. In texts of unknown meaning, the words of `_VOCABULARY` do not
count: they identify nobody.
"""

import hashlib
import hmac
import itertools
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping

import pandas as pd

from kneefair_jax.data import ages, cell_text, column_names
from kneefair_jax.data.metadata import WHOLE_COLUMN, Problem

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
_UID = re.compile(r"\d+(\.\d+){3,}")
_LONG_PART = 6  # characters from which a part of an ID is found inside a word too
_LONGEST_NAME = 4  # words; a longer text is prose, whose words of 2 or 3 letters identify nobody
_GROUP_WORDS_TEXT = (
    "white black asian african american caucasian european hispanic latino latina native indian alaska hawaiian "
    "pacific islander mixed multiple other or of and non not middle eastern north south east arab more than one two"
)
_GROUP_WORDS = frozenset(_GROUP_WORDS_TEXT.split())
# Words of folders, descriptions and clinical tables. Manufacturers are written to the table.
_VOCABULARY_TEXT = (
    "knee knees knie genou rodilla ginocchio femur tibia fibula patella bone bones joint leg limb lower extremity "
    "left right both bilateral links rechts beidseits gauche droite side standing supine weight bearing flexion "
    "fixed extension lateral medial anterior posterior axial oblique skyline sunrise merchant rosenberg ap pa lat "
    "view views xr xray rx cr dx dr dicom dcm film films image images img mask masks label labels seg segmentation "
    "radiograph radiography roentgen series study studies scan scans exam visit baseline follow up followup vendor "
    "site data raw original derived primary secondary standard default processed presentation normal clinical "
    "routine none unknown other yes no ja nein oui non si true false with without and of the for in mm cm kv mas "
    "male female man woman patient patients subject subjects case cases control controls test train validation "
    "kl grade grad ii iii iv tkr tka "
    "carestream philips siemens healthineers ge gems fuji fujifilm agfa canon konica minolta samsung shimadzu "
    "toshiba hologic kodak medical healthcare systems health corporation inc gmbh company digital"
)
_VOCABULARY = _GROUP_WORDS.union(_VOCABULARY_TEXT.split())
# A value of a column that is not written is a level, not an identifier, if as many patients share it.
_SHARED_PATIENTS, _SHARED_PART = 5, 0.2
# A text column whose values belong to single patients, as surnames do, has at least this part and number of them.
_UNIQUE_PART, _UNIQUE_VALUES = 0.8, 4
_LONG_NUMBER = 6  # digits, of telephone numbers and IDs; in a text, with separators too
_SMALLEST_BMI, _LARGEST_BMI = 10.0, 100.0  # kg/m2
KL = re.compile(r"((kl|grade|grad)[ -]?)?[0-4](\.0*)?|tk[ra]", re.IGNORECASE)
_IDENTIFIER_COLUMNS = (
    "address adresse street strasse phone telefon email ssn insurancenumber versicherungsnummer studyuid "
    "studyinstanceuid"
)
_OTHER_IDENTIFIERS = frozenset(_IDENTIFIER_COLUMNS.split())


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
        """Add an identifier, such as a patient's ID or an accession number, and its parts of four characters."""
        for form in _spellings(text):
            compact = "".join(_words(form))
            self._add_form(compact)
            self._add_form(_without_zeros(compact))
            for part in () if _UID.fullmatch(form) else _parts(form):
                if len(part) >= SHORTEST_PART and part not in _VOCABULARY:
                    self._add_part(part)
                    self._add_part(_without_zeros(part))

    def add_text(self, text: str) -> None:
        """Add a text of unknown meaning: its words that are not in `_VOCABULARY`, and the text as one word."""
        if is_placeholder(text):
            return
        for form in _spellings(text):
            if _UID.fullmatch(form):
                self._add_form("".join(_words(form)))
                continue
            words = _words(form)
            shortest = (
                2 if len(words) <= _LONGEST_NAME and not any(map(str.isdigit, words)) else SHORTEST_PART
            )
            parts = [part for part in _parts(form) if part not in _VOCABULARY and len(part) >= shortest]
            for part in parts:
                self._add_part(part)
                if len(_without_zeros(part)) >= SHORTEST_PART:
                    self._add_part(_without_zeros(part))
            is_code = not _VOCABULARY.intersection(words) and len("".join(words)) >= SHORTEST_PART
            if parts or is_code:
                self._add_form("".join(words))

    def _add_form(self, compact: str) -> None:
        # A script without spaces, as of 山田, writes names inside longer words.
        if len(compact) >= SHORTEST_PART or (len(compact) > 1 and not compact.isascii()):
            self.parts.add(compact)
            self._lengths.setdefault(compact[:2], set()).add(len(compact))
        elif compact:
            self.words.add(compact)

    def _add_part(self, part: str) -> None:
        """Add a part of an identifier: a short one occurs by chance inside other words."""
        if len(part) >= _LONG_PART or not part.isascii():
            self._add_form(part)
        elif part:
            self.words.add(part)

    def add_name(self, text: str) -> None:
        """Add each part of a name, and two parts as one word; single letters and placeholders identify nobody."""
        if is_placeholder(text):
            return
        for representation in text.split("="):  # by letters, by ideographs, by sounds (PS3.5, 6.2.1)
            parts = [part for part in re.split(r"[\s^,;.&/\\_-]+", representation) if len(part) > 1]
            pairs = [first + second for first, second in itertools.permutations(parts[:4], 2)]
            for form in (form for part in (*parts, *pairs) for form in _spellings(part)):
                self._add_form("".join(_words(form)))

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
            self._add_form("".join(order))

    def found_in(self, text: str, shortest: int = 1) -> bool:
        """Return whether a text contains an identifier.

        Args:
            text: any text.
            shortest: characters of the shortest identifier that counts; a number such as 25 may be a measurement.
        """
        for form in _spellings(text):
            words = _words(form)
            chunks = re.split(r"[\W_]+", form)  # `7a` is a word, and so are `7` and `a` in it
            compact = "".join(words)
            candidates = {*words, *chunks, *map(_without_zeros, words)} & self.words
            if any(len(word) >= shortest for word in candidates) or any(
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

    The same key gives a patient the same pseudonym, unless an identifier occurs in it. Nobody without the key can
    compute it from an identifier.

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


def _parts(text: str) -> set[str]:
    """Return the parts between separators, and their runs of letters or digits: `ab12`, `ab` and `12` of `ab12-x`."""
    return {*filter(None, re.split(r"[\W_]+", text)), *_words(text)}


def _without_zeros(text: str) -> str:
    """Return a number without leading zeros, any other text unchanged."""
    return text.lstrip("0") or text if text.isdigit() else text


def collect(raw: pd.DataFrame, mapping: Mapping[str, str], identifiers: Identifiers) -> None:
    """Add the IDs, names and dates of a table, and the texts of all columns that are not written.

    Args:
        raw: the cells of the file.
        mapping: column of `metadata.csv` -> header.
        identifiers: receives them.
    """
    headers = list(raw.columns)
    add: dict[str, Callable[[str], None]] = {}
    for name in column_names.synonyms("name", headers):
        add[name] = identifiers.add_name
    dates = [*ages.birth_columns(headers), *ages.exam_columns(headers)]
    dates += [*column_names.synonyms("birth_date", headers), *column_names.synonyms("study_date", headers)]
    for name in dates:
        add[name] = identifiers.add_date
    numbers = ("patient_id", "case_id", "hospital_number")
    ids = [header for name in numbers for header in column_names.synonyms(name, headers)]
    ids += [mapping["patient_id"]] if "patient_id" in mapping else []
    ids += [name for name in headers if column_names.plain(name) in _OTHER_IDENTIFIERS]
    for name in ids:
        add[name] = identifiers.add
    for name, function in add.items():
        for cell in raw[name].unique():
            if not cell_text.is_missing(cell):
                function(year_first(cell) if function == identifiers.add_date else cell)
    patients = _patients(raw, mapping)
    for name in headers:
        if name not in add and name not in mapping.values():
            _collect_texts(raw[name], patients, identifiers)


def collect_titles(titles: Iterable[str], identifiers: Identifiers) -> None:
    """Add the texts above a table's header, such as `Name: Miller`, and the dates in them."""
    for title in titles:
        identifiers.add_text(title)
        for word in re.split(r"[\s,;|]+", title):
            if ages.is_date(word):
                identifiers.add_date(year_first(word))


def _collect_texts(column: pd.Series, patients: pd.Series, identifiers: Identifiers) -> None:
    """Add the texts of a column that is not written, except those that many patients share."""
    for cell, count in patients.groupby(column).nunique().items():
        text = str(cell)
        is_level = count >= _SHARED_PATIENTS and count >= _SHARED_PART * patients.nunique()
        if cell_text.is_missing(text) or is_level:
            continue
        if ages.is_date(text):
            identifiers.add_date(year_first(text))
        elif not cell_text.is_number(text) or _is_large(text):
            identifiers.add_text(text)


def identifies(cell: str, name: str, identifiers: Identifiers) -> bool:
    """Return whether a cell holds an identifier or a date; `White` is a surname too, but no identifier of a race."""
    if not cell or (name == "kl" and KL.fullmatch(cell)):
        return False
    if cell_text.is_number(cell):  # 25 is a measurement, even if a patient's ID is 25
        return ages.is_date(cell) or identifiers.found_in(cell, SHORTEST_PART)
    if name in ("race", "ethnicity") and _is_group(cell):
        return False
    return ages.contains_date(cell) or identifiers.found_in(cell)


def check_values(column: pd.Series, problems: list[Problem]) -> None:
    """Append the cells that are no plausible value of their column.

    Args:
        column: text on the lines of the file, "" where missing.
        problems: receives the faults; none repeats a cell.
    """
    name = str(column.name)
    for row, cell in column[column != ""].items():
        number = float(cell) if cell_text.is_number(cell) else None
        if name == "bmi" and (number is None or not _SMALLEST_BMI <= number <= _LARGEST_BMI):
            fault = (
                f"bmi is no number from {_SMALLEST_BMI:g} to {_LARGEST_BMI:g}; correct it, or leave it empty"
            )
        elif name == "kl" and not KL.fullmatch(cell):
            fault = "kl is no grade from 0 to 4, TKR or TKA; correct it, or leave it empty"
        elif _is_large(cell) if number is not None else len(re.findall(r"\d", cell)) >= _LONG_NUMBER:
            fault = f"{name} has a number of six digits or more, which may be an ID; leave the column out"
        else:
            continue
        problems.append((int(str(row)), fault))


def check_unique(
    column: pd.Series, raw: pd.DataFrame, mapping: Mapping[str, str], problems: list[Problem]
) -> None:
    """Append a column to `problems` if nearly every patient has a text of their own in it."""
    texts = column[[bool(cell) and not cell_text.is_number(cell) and not _is_group(cell) for cell in column]]
    patients = _patients(raw, mapping)[texts.index].nunique()
    if texts.nunique() >= _UNIQUE_VALUES and texts.nunique() >= _UNIQUE_PART * patients:
        fault = (
            f"column {column.name}: has {texts.nunique()} different texts for {patients} patients, which may identify "
            f"them; leave it out, or read its cells and give --confirm-columns {column.name}"
        )
        problems.append((WHOLE_COLUMN, fault))


def year_first(cell: str) -> str:
    """Return a date with its year first; 21.03.1960 has one meaning, and both orders of 03/04/1960 are found."""
    match = re.match(r"(\d{1,2})[-/. ](\d{1,2})[-/. ]((?:18|19|20)\d{2})", cell)
    if not match:
        return cell
    first, second, year = match.groups()
    day, month = (first, second) if int(second) <= 12 else (second, first)
    return f"{year}-{int(month):02d}-{int(day):02d}"


def _patients(raw: pd.DataFrame, mapping: Mapping[str, str]) -> pd.Series:
    """Return the patient of each row; its line in a table without patients."""
    if "patient_id" in mapping:
        return raw[mapping["patient_id"]]
    return pd.Series(raw.index.astype(str), index=raw.index)


def _is_group(cell: str) -> bool:
    return set(re.findall(r"\w+", cell.lower())) <= _GROUP_WORDS


def _is_large(cell: str) -> bool:
    return abs(float(cell)) >= float(10 ** (_LONG_NUMBER - 1))
