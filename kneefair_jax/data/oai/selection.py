"""Which films can be used: enrolled patients, the right series, a spacing, the quality that is asked for."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from kneefair_jax.data.oai import films as film_files
from kneefair_jax.data.oai import tables
from kneefair_jax.data.oai.films import Film
from kneefair_jax.data.source import LeftOut
from kneefair_jax.errors import InputError

QUALITY = ("ACCEPT", "ALIGN", "CENTER", "DEPICT", "EXPOSE", "MOTION", "POSITN")
_THREADS = 16  # headers are small, and their files far apart


def select(
    films: Sequence[Film],
    found: Mapping[str, tables.Table],
    enrolled: Collection[str],
    quality: Mapping[str, str],
    *,
    must_be_named: bool,
) -> tuple[list[Film], list[LeftOut]]:
    """Reads every header.

    Args:
        films: what there is.
        found: the tables.
        enrolled: the patients of the table of enrolled ones.
        quality: name of `QUALITY` -> the codes or labels between commas that a film may have in the column of
            its visit (`V00ACCEPT`), "" for any. A film that has none there is left out, and so is one with
            several of which one is not among them.
        must_be_named: whether a film of which nothing says what series it is from is refused.

    Returns:
        The films that can be used, with spacing and barcode, and the others with every reason.

    Raises:
        InputError: a quality column is not there.
    """
    asked = {
        name: {text.strip().lower() for text in str(quality[name]).split(",")} - {""} for name in QUALITY
    }
    asked = {name: allowed for name, allowed in asked.items() if allowed}
    visits = {film.visit for film in films}
    checks = [_check(found, visit, name, allowed) for visit in visits for name, allowed in asked.items()]
    kept: list[Film] = []
    left_out: list[LeftOut] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        inspected = pool.map(partial(film_files.inspect, must_be_named=must_be_named), films)
        for film, reasons in inspected:
            if film.patient not in enrolled:
                reasons.append("its patient is not in Enrollees")
            reasons += [reason for check in checks if (reason := check(film))]
            if reasons:
                left_out.append((film.name, "; ".join(reasons)))
            else:
                kept.append(film)
    return kept, left_out


def require(films: Sequence[Film], left_out: Sequence[LeftOut], where: str) -> None:
    """Raises an InputError with the commonest reasons where no film is left."""
    if not films:
        reasons = Counter(reason for _, reason in left_out).most_common(5)
        text = "".join(f"\n{count} x {reason}" for reason, count in reasons) or " there is none"
        raise InputError(f"{where}: no film can be used:{text}")


def _check(
    found: Mapping[str, tables.Table], visit: str, name: str, allowed: set[str]
) -> Callable[[Film], str]:
    """A film -> why its quality is not as asked, or ""."""
    wanted = f"V{visit}{name}"
    column = tables.column(found, wanted)
    if column is None or not column.by_film:
        raise InputError(
            f"config.data.quality.{name}: no table has {wanted} by barcode; add XRay{visit}.txt to data.tables, or "
            "set it to ''"
        )
    cells = column.cells

    def check(film: Film) -> str:
        if film.visit != visit:
            return ""
        there = cells.get((film.barcode, ""), [])
        if not there:
            return f"no {wanted} for its barcode"
        passed = all({tables.code(cell).lower(), tables.label(cell).lower()} & allowed for cell in there)
        return "" if passed else f"{wanted} is not as data.quality.{name} asks"

    return check
