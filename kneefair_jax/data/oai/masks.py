"""Masks by the name of their film."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kneefair_jax.data import readers
from kneefair_jax.data.oai.films import Film
from kneefair_jax.data.readers import suffixes
from kneefair_jax.data.source import LeftOut
from kneefair_jax.errors import InputError


def by_name(folder: Path) -> dict[str, Path]:
    """The masks of a folder by their name without suffix, in lower case; a JPEG is a preview, and no mask.

    Raises:
        InputError: two differ in nothing but suffix or case.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.name.lower()
        suffix = readers.suffix_of(name)
        if not suffix or suffix in suffixes.JPEG or name.startswith(".") or not path.is_file():
            continue
        if twin := found.get(name.removesuffix(suffix)):
            raise InputError(f"{path} and {twin.name} are masks of the same name; keep one of them")
        found[name.removesuffix(suffix)] = path
    return found


def pair(films: Sequence[Film], folder: Path) -> tuple[list[Film], list[LeftOut], list[LeftOut]]:
    """Gives each film its mask: the file named by the case, the barcode (8 or all 12 digits) or the patient's ID.

    An ID names the film of a patient who has one film.

    Returns:
        The films with a mask, the films without, and a line on the masks that fit no film.

    Raises:
        InputError: two masks have one name, or no mask fits a film.
    """
    masks = by_name(folder)
    of_patient = Counter(film.patient for film in films)
    paired: list[Film] = []
    left_out: list[LeftOut] = []
    for film in films:
        names = [film.name, film.barcode, f"0166{film.barcode}", f"166{film.barcode}"]
        mask = next((masks[name] for name in names if name in masks), None)
        if mask is None and film.patient in masks and of_patient[film.patient] > 1:
            left_out.append((film.name, "its mask goes by the ID of a patient with several films"))
        elif mask is None and film.patient not in masks:
            left_out.append((film.name, "no mask in data.masks"))
        else:
            paired.append(film._replace(mask=mask or masks[film.patient]))
    if films and not paired:
        there = (
            f"the folder has {next(iter(masks.values())).name!r}"
            if masks
            else "the folder has none (a JPEG is no mask)"
        )
        raise InputError(
            f"{folder}: no mask fits a film. The mask of film {films[0].name} is {films[0].name}.nii.gz, "
            f"{films[0].barcode}.nii.gz, or, if the patient has one film, {films[0].patient}.nii.gz (or .png); {there}"
        )
    spare = len(masks) - len({film.mask for film in paired})
    return paired, left_out, [(f"{spare} masks", "fit no film in use")] if spare else []
