"""Parse the arguments of `kneefair predict`, run it, and print the counts."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kneefair_jax import measurements, weights
from kneefair_jax.errors import InputError
from kneefair_jax.measurements import spacing
from kneefair_jax.predict import films, measuring, predictor, run, session, writers
from kneefair_jax.predict.areas import AREAS
from kneefair_jax.runtime import command, output_folder
from kneefair_jax.weights.network import FITS

SOME_FAILED, ALL_FAILED = 1, 2  # exit statuses

_EPILOG = f"""\
examples:
  kneefair predict runs/mine --images films --out segmented
  kneefair predict --checkpoint phantom --images knee.png --out segmented
  kneefair predict --checkpoint phantom --images films "more/*.dcm" --out segmented --format nifti --flip
  kneefair predict --checkpoint runs/mine --images film.dcm --knees both --out segmented

A second run into the same OUT adds to its areas.csv; rows of files that are segmented again are replaced. The results
of a file are kept, and the file is not segmented again, if the network, the options (except --batch-size) and the
file's content are those of the earlier run and its results are unchanged: the same command completes an interrupted
run. If OUT has results of a file by another network or other options, the command stops before any work; with
--overwrite the earlier results of a file (its mask in another format, its overlay, its outlines) are deleted once the
new results are written, or the file fails. Two files are the same if their absolute paths are equal (file_id is a hash
of the path): a file of another folder whose mask would have the same name is refused.

Each bone of a knee is one piece without holes, in masks and outlines: a piece of less than 30 % of the largest one's
pixels gets the most probable other structure or background, and holes are filled. Confidence, predicted Dice and
warnings refer to the mask before cleaning; --raw skips the cleaning.

OUT gets masks/ (0 is background, 1, 2, ... the structures, at the file's own size), overlays/ (to look at), outlines/
(with --outlines: the whole bones, 1 in a file of each; areas.csv has rows of them, too) and areas.csv: a row per file
and structure, with mm2 if the file states its spacing, the network's mean confidence, and for calibrated networks the
predicted Dice with its interval (empty for others). The row has a warning if femur, tibia and patella together, or one
of them, have a low predicted Dice, if the bones of the turned film are recognized better, or if the mask is
implausible: one of these bones absent, too small without being cut by the film's edge, or in several pieces, or the
tibia not below the femur or narrow beside it. The first row of a file has its warning, and the others refer to it (see
femur).
Areas are by the spacing as stated; spacing_kind says which: detector (ImagerPixelSpacing, most DICOM files: a bone that
lies before the detector appears larger there, and nothing is corrected for that), calibrated (PixelSpacing), scanned
(NominalScannedPixelSpacing), header (NIfTI), stated (--spacing) or unknown. A warning names two of them that differ by
more than a factor of 1.5. Masks as PNG lie as the film is displayed (its header followed); as nifti and dicomseg on its
stored pixels.

Masks in a folder (DICOM-SEG, or at most {films.MOST_LABELS} gray values in
constant regions) are left out, with one line that names the
first of them; name such a file itself to segment it. Its earlier results are kept.
Files that cannot be segmented are reported on stderr, one line each, and skipped; the rest are processed. The exit
status is 0 if no file failed (every file was segmented or left out as a mask), {SOME_FAILED} if some failed, and
{ALL_FAILED} if nothing was segmented.

For research only, not for the care of patients.
"""


# Long, since it is a list of arguments with their help.
def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_parser = command.Parser(
        prog="kneefair predict",
        description="Segments radiographs: PNG, JPEG, TIFF, DICOM, NIfTI, NPY.",
        epilog=_EPILOG,
    )
    command_parser.add_argument(
        "run", nargs="?", default="", metavar="RUN", help="folder of a finished run, whose network segments"
    )
    command_parser.add_argument(
        "--checkpoint",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help=f"a shipped network ({', '.join(weights.NAMES)}), an exported run directory or a .safetensors file; "
        "several are averaged",
    )
    command_parser.add_argument(
        "--images",
        nargs="+",
        action="extend",
        required=True,
        metavar="PATH",
        help="files, folders (with those below), globs",
    )
    command_parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    command_parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace results of the same files by another network or other options",
    )
    command_parser.add_argument(
        "--format", choices=writers.FORMATS, default="png", help="of masks; dicomseg is for DICOM"
    )
    command_parser.add_argument("--no-overlays", action="store_true", help="write only masks and areas")
    command_parser.add_argument(
        "--knees",
        choices=session.KNEES,
        default="auto",
        help="both: a film is cut at its midline, image left is the patient's right; auto: as the DICOM header "
        "states, else one",
    )
    command_parser.add_argument(
        "--whole-femur",
        action="store_true",
        help="femur and patella as one structure; for a network with overlap classes the whole femur",
    )
    command_parser.add_argument(
        "--outlines",
        action="store_true",
        help="also write the whole bones, which overlap, for a network with overlap classes: into outlines/, one file "
        "per bone, with dicomseg one segment per bone",
    )
    command_parser.add_argument(
        "--in-front",
        choices=("tibia", "fibula"),
        default="",
        help="which of the two a mask shows where they overlap, for a network with overlap classes (default: tibia)",
    )
    command_parser.add_argument(
        "--fit",
        choices=FITS,
        default="",
        help="how films are placed on the network's working grid: stretched to its shape, or padded with their aspect "
        "ratio (default: as the network's description says)",
    )
    command_parser.add_argument(
        "--raw",
        action="store_true",
        help="keep small pieces beside a bone and holes in it, which are removed otherwise",
    )
    command_parser.add_argument(
        "--flip",
        action="store_true",
        help="test-time augmentation: average with the flipped image; twice the time",
    )
    command_parser.add_argument(
        "--anonymous",
        action="store_true",
        help="dicomseg without the patient's name, identifiers and dates, and with new UIDs, so that it no longer "
        "refers to its film; without this option they are copied from the film, as the standard requires; the other "
        "formats hold none",
    )
    command_parser.add_argument(
        "--spacing",
        metavar="MM",
        help="the pixel spacing in mm, as one number or as ROW,COLUMN of the film as displayed, for files that state "
        "none (PNG, JPEG); a file that states its own keeps it, with a warning where the two differ; with --measure it "
        "counts as that of the plane of the bones",
    )
    command_parser.add_argument(
        "--measure",
        action="store_true",
        help="also write measurements.csv (joint space, angles, widths of each knee, as kneefair measure does) and "
        "draw them on the overlays; if neither fibula nor header shows the side, kneefair measure takes it from a "
        "table",
    )
    command_parser.add_argument(
        "--magnification",
        type=float,
        metavar="FACTOR",
        help="with --measure: of the bones on the detector, for files whose spacing is the detector's",
    )
    groups = command_parser.add_mutually_exclusive_group()
    groups.add_argument(
        "--group", metavar="NAME", help="such as sex=female, of all patients, for group-specific networks"
    )
    groups.add_argument(
        "--metadata",
        type=Path,
        metavar="CSV",
        help="table with the group of each file: case_id (its name without the ending) and the groups' attributes",
    )
    command_parser.add_argument(
        "--allow-similar-ids",
        action="store_true",
        help="accept case ids of --metadata that look alike, such as 7 and 0007, as different ones",
    )
    command_parser.add_argument(
        "--batch-size",
        type=command.integer(1, 1024),
        default=8,
        metavar="N",
        help="files per batch (default: 8; at most 32 are read at once)",
    )
    return command_parser


def networks(options: argparse.Namespace) -> list[str]:
    """Return the names, runs and files of networks that a command line gives.

    Raises:
        InputError: it gives none.
    """
    names = [*([options.run] if options.run else []), *options.checkpoint]
    if not names:
        raise InputError(
            f"which network? give the folder of a run, or --checkpoint with {weights.NAMES[0]} or a .safetensors file"
        )
    return names


def _magnification(options: argparse.Namespace) -> float:
    """Return the stated magnification; NaN if there is none.

    Raises:
        InputError: it is out of range, or measures nothing.
    """
    if options.magnification is None:
        return float("nan")
    if not options.measure:
        raise InputError("--magnification applies to measurements alone: add --measure, or leave it out")
    if options.spacing is not None:
        raise InputError(f"--spacing {spacing.NO_MAGNIFICATION}")
    return spacing.check_magnification(options.magnification, "--magnification")


def main(argv: Sequence[str]) -> int:
    """Segment radiographs and return the exit status that the help describes."""
    options = parser().parse_args(argv)
    output_folder.require_writable(options.out, "--out")
    stated_spacing = None if options.spacing is None else films.parse_spacing(options.spacing)
    magnification = _magnification(options)
    network = predictor.load(
        *networks(options),
        flip=options.flip,
        whole_femur=options.whole_femur,
        outlines=options.outlines,
        in_front=options.in_front,
        fit=options.fit,
        raw=options.raw,
        batch_size=options.batch_size,
    )
    if options.measure and not measurements.knees_of(network.structures):
        raise InputError(
            f"--measure: the network segments {', '.join(network.structures)}, and measurements need femur and tibia; "
            "leave it out"
        )
    groups = options.metadata and films.groups_of_cases(
        options.metadata, network.groups, allow_similar=options.allow_similar_ids
    )
    settings = session.Settings(
        format=options.format,
        overlays=not options.no_overlays,
        knees=options.knees,
        group=options.group,
        batch=options.batch_size,
        groups=groups,
        anonymous=options.anonymous,
        spacing=stated_spacing,
        overwrite=options.overwrite,
        measure=options.measure,
        magnification=magnification,
    )
    tally = run.run(network, options.images, options.out, settings)
    earlier = (
        f" ({tally.earlier_segmentations} by an earlier run, whose results are kept)"
        if tally.earlier_segmentations
        else ""
    )
    counts = (
        f"{tally.segmentations} segmented{earlier}, {tally.warnings} with a warning, {tally.failures} failed"
    )
    if tally.label_images:
        counts += f", {tally.label_images} left out as masks"
    print(f"{counts}: {options.out / AREAS}")
    if tally.unknown_spacings:
        files = "1 file states" if tally.unknown_spacings == 1 else f"{tally.unknown_spacings} files state"
        print(f"{files} no pixel spacing: areas in pixels only; state it with --spacing")
    if options.measure:
        print(f"measurements: {options.out / measuring.FILE}")
    if not tally.segmentations:
        remedy = "correct the files above" if tally.failures else "name a file itself to segment it"
        print(f"error: no file was segmented; {remedy}", file=sys.stderr)
        return ALL_FAILED
    return SOME_FAILED if tally.failures else 0
