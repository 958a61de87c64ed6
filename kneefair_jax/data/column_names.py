"""Names of columns in users' tables: which header means which column, and suggestions for near misses."""

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from kneefair_jax.errors import InputError

# Headers in English, German, French, Spanish and Italian, as `plain` writes them.
_HEADERS = {
    "patient_id": "patientid patient patientno patientnumber subject subjectid mrn patientennummer patientenid "
    "patientnr patnr patid pid idpatient numeropatient idpaciente idpaziente medicalrecordnumber",
    "sex": "sex gender geschlecht sexe sexo sesso patientsex sexatbirth",
    "age": "age alter edad eta patientage ageyears ageinyears alterjahre ageatexam",
    "birth_date": "birthdate dateofbirth dob patientbirthdate birthday geburtsdatum gebdatum datedenaissance "
    "naissance fechadenacimiento fechanacimiento datadinascita",
    "study_date": "studydate examdate untersuchungsdatum aufnahmedatum datedexamen fechadeestudio",
    "name": "name patientname lastname firstname surname familyname givenname nachname vorname patientenname nom "
    "prenom nombre apellido apellidos cognome nome",
    "race": "race patientrace",
    "ethnicity": "ethnicity ethnicgroup ethnie etnia",
    "bmi": "bmi bodymassindex imc",
    "kl": "kl klgrade kellgrenlawrence kellgrenlawrencegrade xrkl",
    "site": "site center centre hospital klinik zentrum institution",
    "side": "side laterality seite cote lado lato knee",
    "image": "image imagefile file filename film datei dateiname fichier",
}
SYNONYMS: Mapping[str, frozenset[str]] = {
    name: frozenset(headers.split()) for name, headers in _HEADERS.items()
}


def plain(name: str) -> str:
    """Return the letters and digits of a header in lower case, without accents."""
    decomposed = unicodedata.normalize("NFKD", name.replace("ß", "ss"))
    return re.sub(r"[^a-z0-9]", "", decomposed.casefold())


def synonyms(target: str, names: Iterable[str]) -> list[str]:
    """Return the headers that mean a column: by the same letters, or by a synonym.

    Example:
        >>> synonyms("sex", ["ID", "Geschlecht", "Alter"])
        ['Geschlecht']
    """
    forms = SYNONYMS.get(target, frozenset()) | {plain(target)}
    return [name for name in names if plain(name) in forms]


def suggestion(target: str, names: Collection[str]) -> str:
    """Return `; did you mean 'Sex'?` for a column that a table lacks, or "" if no header is near.

    Args:
        target: the column that was asked for.
        names: the headers of the table.
    """
    near = synonyms(target, names)
    if not near:
        forms = {plain(name): name for name in names}
        matches = difflib.get_close_matches(plain(target), list(forms), n=1, cutoff=0.75)
        near = [forms[match] for match in matches]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def mapping(
    targets: Iterable[str], names: Collection[str], stated: Mapping[str, str], path: Path
) -> dict[str, str]:
    """Return target -> header, as the user states it, or by the only header that is a synonym.

    Args:
        targets: the columns wanted; those without a header are left out.
        names: the headers of the table.
        stated: target -> header by the user (`--columns`), also of targets that are not in `targets`.
        path: of the table, for messages.

    Raises:
        InputError: a stated header is not in the table, or several headers mean the same column.
    """
    headers = ", ".join(names)
    for target, name in stated.items():
        if name not in names:
            raise InputError(
                f"{path}: --columns {target}={name}: there is no column {name!r}{suggestion(name, names)}; the "
                f"columns are: {headers}"
            )
    result = dict(stated)
    for target in targets:
        if target in stated:
            continue
        candidates = [name for name in synonyms(target, names) if name not in stated.values()]
        if len(candidates) > 1 and target not in candidates:
            raise InputError(
                f"{path}: {' and '.join(map(repr, candidates))} may both be the column {target}; state one with "
                f"--columns {target}={candidates[0]}"
            )
        if candidates:
            result[target] = target if target in candidates else candidates[0]
    return result
