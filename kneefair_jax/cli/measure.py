"""`kneefair measure`: joint space, angles and widths of knees from masks, in millimeters and degrees."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import command

if TYPE_CHECKING:  # they take seconds
    import numpy as np
    import pandas as pd

REMEDIES = command.Remedies(
    option="--out",
    memory="give fewer masks",
    resume=lambda: "results are written at the end; the same command starts again",
)
TABLE, OVERLAYS = "measurements.csv", "overlays"
SOME_FAILED = 1  # the exit status where some masks could not be read
_EPILOG = """\
examples:
  kneefair measure masks --labels knee --metadata metadata.csv --out measured
  kneefair measure segmented/masks --images films --out measured
  kneefair measure knee.png --spacing 0.15 --out measured

OUT gets measurements.csv, a row per mask, knee and measurement: value, unit, or the reason why there is no value; and
overlays with the lines that were measured. The lateral side is that of the fibula; where the mask has none, a column
side (right, left) states the knee, on a film with the patient's right at its left.

Lengths need the pixel spacing in the plane of the bones: the column spacing_mm, --spacing, a calibrated PixelSpacing of
the film in --images, or its ImagerPixelSpacing with a magnification (in the header, --magnification, or a column of
this name). Where only the spacing of the detector is known, angles alone are measured.

A mask that cannot be read is reported in a line and skipped; the exit status is then 1.

measurements: {names}

For research only, not for the care of patients.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from kneefair_jax.measurements import MEASUREMENTS

    result = command.Parser(
        prog="kneefair measure",
        description="Measure knees from masks: PNG, TIFF, NPY, NIfTI, DICOM-SEG.",
        epilog=_EPILOG.format(names=", ".join(MEASUREMENTS)),
    )
    result.add_argument("masks", nargs="+", type=Path, metavar="PATH", help="masks, or folders of them")
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    result.add_argument("--overwrite", action="store_true", help="replace earlier measurements in --out")
    result.add_argument(
        "--labels",
        nargs="+",
        default=["knee"],
        metavar="NAME=VALUES",
        help="femur=1 tibia=2 ..., or a scheme: knee (default), knee_overlaps, knees",
    )
    result.add_argument("--images", type=Path, metavar="DIR", help="their radiographs, of the same names")
    result.add_argument(
        "--metadata",
        type=Path,
        metavar="FILE",
        help="table with case_id (a mask's path below its folder, or its name, without ending), and optionally "
        "spacing_mm, side and magnification",
    )
    result.add_argument(
        "--spacing", metavar="MM", help="of pixels in the plane of the bones: MM, or ROW,COLUMN"
    )
    result.add_argument(
        "--magnification",
        type=float,
        metavar="FACTOR",
        help="of the bones on the detector, where the spacing is the detector's",
    )
    result.add_argument("--no-overlays", action="store_true", help="write the table alone")
    return result


def main(argv: Sequence[str]) -> int:
    """Measure masks; return 0, or the status of `runtime.command`."""
    return command.run(lambda: _main(argv), REMEDIES)


class _Case(NamedTuple):
    """A mask to measure.

    Attributes:
        name: its path below the folder that was given, without ending.
        path: its file.
        film: its radiograph, if there is one.
        spacing: f[2], as stated; NaN where nothing is.
        side: right, left, or "".
        magnification: NaN where it is not stated.
    """

    name: str
    path: Path
    film: Path | None
    spacing: "np.ndarray"
    side: str
    magnification: float


def _main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    from kneefair_jax.data import label_map
    from kneefair_jax.measurements import spacing
    from kneefair_jax.report import csv_tables
    from kneefair_jax.runtime import output_folder, written_files

    output_folder.require_writable(options.out, "--out")
    for folder in options.masks:
        if folder.is_dir() and options.out.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"--out {options.out}: lies in the folder of the masks, where overlays would be taken for masks; "
                "give another folder"
            )
    written_files.require_new(
        options.out, "measurement", "--out", [TABLE], overwrite=options.overwrite, inputs=options.masks
    )
    if options.magnification is not None:
        spacing.check_magnification(options.magnification, "--magnification")
        if options.spacing is not None:
            raise InputError(f"--spacing {spacing.NO_MAGNIFICATION}")
    labels = label_map.check(label_map.parse(options.labels))
    cases = _cases(options)
    with written_files.replacement(
        options.out, "measurement", "--out", overwrite=options.overwrite, inputs=options.masks
    ) as stage:
        table, errors = _measure_all(cases, labels, stage, with_overlays=not options.no_overlays)
        if table.empty:
            raise InputError(f"no mask could be measured; {errors[0]}")
        csv_tables.escape_formulas(table).to_csv(stage / TABLE, index=False)
    for error in errors:
        print(f"failed: {error}", file=sys.stderr)
    print(_summary(table))
    failures = f"; {len(errors)} of {len(cases)} masks or their films failed" if errors else ""
    print(f"measurements: {options.out / TABLE}{failures}")
    return SOME_FAILED if errors else 0


def _cases(options: argparse.Namespace) -> list[_Case]:
    """List the masks, and what the table and the options state of each."""
    import numpy as np

    paths = _by_name(options.masks)
    films = {} if options.images is None else _by_name([options.images])
    stated = _stated(options)
    spacing = np.full(2, np.nan)
    if options.spacing is not None:
        from kneefair_jax.predict.films import parse_spacing

        spacing = parse_spacing(options.spacing)
    magnification = float("nan") if options.magnification is None else options.magnification
    cases = []
    counts = Counter(Path(name).name for name in paths)
    for name, path in paths.items():
        # A name without folders stands for a mask if no other mask has it.
        last = Path(name).name if counts[Path(name).name] == 1 else name
        of_table = stated.get(name, stated.get(last, (np.full(2, np.nan), "", float("nan"))))
        if stated and name not in stated and last not in stated:
            raise InputError(f"{options.metadata}: no case {name!r}, of the mask {path}; add a row")
        cases.append(
            _Case(
                name,
                path,
                films.get(name, films.get(last)),
                of_table[0] if np.isfinite(of_table[0]).all() else spacing,
                of_table[1],
                magnification if np.isnan(of_table[2]) else of_table[2],
            )
        )
    return cases


def _by_name(arguments: Sequence[Path]) -> dict[str, Path]:
    """Return name -> file of files and folders; a name is a path below the folder without ending.

    Raises:
        InputError: a path does not exist, a folder holds no image, or two files have one name.
    """
    from kneefair_jax.data import mask_files, readers

    files: list[tuple[str, Path]] = []
    for argument in arguments:
        if argument.is_dir():
            listing = mask_files.list_files(argument)
            for error in listing.errors:
                raise error
            images = [path for path in listing.paths if path.name.lower().endswith(readers.SUFFIXES)]
            if not images:
                raise InputError(f"{argument}: holds no image; give a folder of images")
            files += [(path.relative_to(argument).as_posix(), path) for path in images]
        elif argument.exists():
            files.append((argument.name, argument))
        else:
            raise InputError(f"{argument}: no such file or folder; correct the path")
    names = [name[: len(name) - len(readers.suffix_of(name))] for name, _ in files]
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise InputError(f"two files have the name {twice!r}; rename one, or measure them separately")
    return dict(zip(names, (path for _, path in files), strict=True))


def _stated(options: argparse.Namespace) -> dict[str, tuple["np.ndarray", str, float]]:
    """Return case id -> spacing, side and magnification of the table; empty without a table."""
    if options.metadata is None:
        return {}
    import pandas as pd

    from kneefair_jax.audit import measuring
    from kneefair_jax.data import metadata

    cells = metadata.read(options.metadata).cells
    problems: list[metadata.Problem] = []
    metadata.check_identifiers(cells, problems, ("case_id",))
    spacings = metadata.spacings(cells, problems)
    metadata.refuse(options.metadata, problems)
    knees = pd.DataFrame({name: cells.get(name, "") for name in ("side", "magnification")}, index=cells.index)
    of_row = measuring.knees(knees, spacings, options.metadata)
    return {
        case: (spacing, *of_row[row])
        for (row, case), spacing in zip(cells["case_id"].items(), spacings, strict=True)
    }


def _measure_all(
    cases: Sequence[_Case], labels: dict[str, tuple[int, ...]], out: Path, *, with_overlays: bool
) -> tuple["pd.DataFrame", list[InputError]]:
    """Measure every mask, and write the overlays.

    Returns:
        The table, and the error of each mask or film that cannot be used.
    """
    import os
    from concurrent.futures import ThreadPoolExecutor

    import pandas as pd

    from kneefair_jax.measurements.measure import TABLE_COLUMNS
    from kneefair_jax.runtime import progress

    def measure_or_error(case: _Case) -> tuple[list[tuple[str, ...]], InputError | None]:
        try:
            return _measure(case, labels, out if with_overlays else None)
        except InputError as error:
            return [], error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(progress.track(pool.map(measure_or_error, cases), len(cases), "measuring"))
    errors = [error for _, error in results if error is not None]
    rows = [row for part, _ in results for row in part]
    frame = pd.DataFrame(rows, columns=["case_id", *TABLE_COLUMNS])
    return frame.assign(value=pd.to_numeric(frame["value"])), errors


def _measure(
    case: _Case, labels: dict[str, tuple[int, ...]], out: Path | None
) -> tuple[list[tuple[str, ...]], InputError | None]:
    """Return the rows of a mask, and why its film cannot be drawn."""
    import numpy as np
    from PIL import Image

    from kneefair_jax.audit import measuring
    from kneefair_jax.data import label_map, mask_files, readers
    from kneefair_jax.measurements import measure, whole_bones
    from kneefair_jax.measurements.measure import table_rows
    from kneefair_jax.report import measurement_overlay
    from kneefair_jax.runtime import atomic

    mask = mask_files.read(case.path, labels)
    label = label_map.to_labels(mask.values, labels, case.path)
    structures = label_map.structure_names(labels)
    pixel = measuring.bone_spacing(case.spacing, mask, case.film, case.magnification)
    results = {
        knee: measure(
            whole_bones(label, structures, knee),
            pixel.mm,
            knee or case.side,
            refusal=pixel.refusal,
            void=label_map.ignored(mask.values, labels),
        )
        for knee in measuring.sides_of(structures)
    }
    film_error = None
    if out is not None:
        image = np.zeros(label.shape, np.uint8)
        try:
            film = None if case.film is None else readers.read_radiograph(case.film)
        except InputError as error:  # the measurements do not need it
            film, film_error = None, error
        if film is not None and film.pixels.shape[:2] == label.shape:
            image = readers.to_gray(readers.to_uint8(film.pixels, valid=film.valid))
        picture = measurement_overlay.draw(image, label, results, pixel.mm or (1.0, 1.0))
        path = out / OVERLAYS / f"{case.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacement(path) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
    rows = [
        (case.name, *row)
        for knee, result in results.items()
        for row in table_rows(knee or case.side, result, pixel.kind)
    ]
    return rows, film_error


def _summary(table: "pd.DataFrame") -> str:
    """Return a text table: of each measurement, the knees, the mean, and the most frequent reason for no value."""
    from kneefair_jax import safe_text

    rows = [("", "knees", "mean", "not measured")]
    for (name, unit), part in table.groupby(["measurement", "unit"], sort=False):
        values = part["value"].dropna()
        refused = part.loc[part["reason"] != "", "reason"]
        why = f"{len(refused)}: {refused.value_counts().index[0]}" if len(refused) else "0"
        mean = f"{values.mean():.2f} {unit}" if len(values) else "-"
        rows.append((str(name), str(len(values)), mean, why))
    return "\n".join(safe_text.align_columns(rows))


if __name__ == "__main__":
    command.exit_process(main(sys.argv[1:]))
