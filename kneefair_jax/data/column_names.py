"""Names of columns in users' tables: which header means which column, and suggestions for near misses."""

import difflib
import re
import shlex
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from kneefair_jax.errors import InputError

# Headers in English, German, French, Spanish and Italian, as `plain` writes them.
_HEADERS = {
    "patient_id": "patientid patient patientno patientnumber patientnum patientnr patientcode patientidentifier "
    "patientenid patientennummer patientennr patientenkennung patno patnum patnummer patnr patid pid mrn "
    "medicalrecordnumber medicalrecordno nodepatient nodepaciente subject subjectid subjectno "
    "subjectnumber participant participantid probandid probandennummer probandennr "
    "idpatient numeropatient numeropatiente numerodepatient numpatient identifiantpatient ipp idpaciente "
    "numeropaciente numerodepaciente historiaclinica numerohistoriaclinica nhc idpaziente",
    # Of a hospital, or of a patient in it; and a number of patients, or of one: these never stand for another column.
    "hospital_number": "hospitalnumber hospitalno hospitalid krankenhausnummer krankenhausnr npatient nopatient "
    "nopaciente",
    # A patient may have several cases (stays, examinations), so that these never stand for patient_id.
    "case_id": "caseid caseno casenumber casenum casenr fallnummer fallnr fallid studyid accession accessionno "
    "accessionnumber auftragsnummer untersuchungsnummer numerocas idcas numerodecas numerocaso idcaso numerodecaso",
    "sex": "sex gender geschlecht patientengeschlecht sexe genre sexo genero sesso patientsex patientgender "
    "biologicalsex sexatbirth birthsex",
    "age": "age alter lebensalter patientenalter edad eta patientage ageyears ageinyears ageyrs agey alterjahre "
    "alterinjahren alterj ageatexam ageatexamination ageatstudy ageatscan alterbeiuntersuchung alterbeiaufnahme "
    "ageannees ageans ageenannees edadanos edadenanos",
    "birth_date": "birthdate dateofbirth dob patientbirthdate birthday geburtsdatum gebdatum datedenaissance "
    "naissance fechadenacimiento fechanacimiento datadinascita",
    "study_date": "studydate examdate untersuchungsdatum aufnahmedatum datedexamen fechadeestudio",
    "name": "name patientname lastname firstname surname familyname givenname nachname vorname patientenname nom "
    "prenom nombre apellido apellidos cognome nome",
    "race": "race patientrace selfreportedrace racialgroup raceethnicity raza",
    "ethnicity": "ethnicity ethnicgroup ethnicorigin patientethnicity ethnischegruppe ethnischeherkunft ethnizitat "
    "ethnizitaet ethnie ethnicite origineethnique etnia etnicidad origenetnico",
    "bmi": "bmi bodymassindex imc",
    "kl": "kl klgrade klgrad klscore kellgrenlawrence kellgrenlawrencegrade kellgrenlawrencegrad "
    "kellgrenlawrencescore xrkl",
    "site": "site siteid sitename center centerid centername centre centreid centrename studysite studycenter "
    "studycentre hospital hospitalname clinic klinik krankenhaus zentrum studienzentrum standort institution "
    "institutionname hopital etablissement centro clinica",
    "side": "side laterality seite seitenangabe korperseite koerperseite lateralitat lateralitaet kneeside bodyside "
    "imagelaterality cote lateralite lado lateralidad lato knee",
    "model": "model modelname modell modelle modelo modello vendor algorithm algorithmus algorithme algoritmo algo ai "
    "aisystem aitool ki software network netz",
    "image": "image imagefile file filename film datei dateiname fichier",
}
SYNONYMS: Mapping[str, frozenset[str]] = {
    name: frozenset(headers.split()) for name, headers in _HEADERS.items()
}


def plain(name: str) -> str:
    """Return the letters and digits of a header in lower case, without accents; `K&L` is `kl`."""
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
                f"--columns {shlex.quote(f'{target}={candidates[0]}')}"
            )
        if candidates:
            result[target] = target if target in candidates else candidates[0]
    return result
