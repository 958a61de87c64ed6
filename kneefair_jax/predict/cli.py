"""The arguments of `python -m kneefair_jax.predict`, and what it prints."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kneefair_jax import weights
from kneefair_jax.predict import predictor, routing, run, stated_spacing, writers
from kneefair_jax.runtime import command_line, output_folder
from kneefair_jax.weights.network import FITS

SOME_FAILED, NOTHING_DONE = 1, 2  # exit statuses

_EPILOG = f"""\
examples:
  python -m kneefair_jax.predict --checkpoint phantom --images knee.png --out segmented
  python -m kneefair_jax.predict --checkpoint phantom --images films "more/*.dcm" --out segmented --format nifti --flip
  python -m kneefair_jax.predict --checkpoint runs/mine --images film.dcm --knees both --out segmented

A second run into the same OUT adds to its areas.csv; rows of files that are segmented again are replaced. A file is
kept, and not segmented again, where network, options (but --batch-size) and the file's content are those of the earlier
run and its results are unchanged: the same command completes an interrupted run. What an earlier run wrote of a file
with other options (another format, overlays, outlines) is deleted once its new results are written, or the file fails.
Files are the same where their absolute paths are (file_id is a hash of it): a file of another folder whose mask would
have the same name is refused.

OUT gets masks/ (0 is background, 1, 2, ... the structures, at the file's own size), overlays/ (to look at), outlines/
(with --outlines: the whole bones, 1 in a file of each; areas.csv has rows of them, too) and areas.csv: a row a file and
structure, with mm2 where the file states its spacing, the network's mean confidence, and a warning where that is below
{predictor.UNSURE} over all structures together: the image is unlike those trained on; or where the mask is no knee's: a
structure is absent, too small or in several pieces, or the tibia is not below the femur.
The first row of a file has its warning, and the others refer to it (see femur).
Areas are by the spacing as stated; spacing_kind says which: detector (ImagerPixelSpacing, most DICOM files: a bone that
lies before the detector appears larger there, and nothing is corrected for that), calibrated (PixelSpacing), scanned
(NominalScannedPixelSpacing), header (NIfTI), stated (--spacing) or unknown. A warning names two of them that differ by
more than a factor of 1.5. Masks as PNG lie as the film is displayed (its header followed); as nifti and dicomseg on its
stored pixels.

Files that cannot be segmented are reported on stderr, a line each, and skipped; the rest are processed. The exit
status is 0 if every file was segmented, {SOME_FAILED} if some failed, and {NOTHING_DONE} if nothing was
segmented.

This is for research, not for the care of patients.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = command_line.Parser(
        prog="python -m kneefair_jax.predict",
        description="Segments radiographs: PNG, JPEG, TIFF, DICOM, NIfTI, NPY.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "--checkpoint",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME",
        help=f"a network that ships ({', '.join(weights.NAMES)}), an exported run's folder or a .safetensors file; "
        "several are averaged",
    )
    made.add_argument(
        "--images",
        nargs="+",
        action="extend",
        required=True,
        metavar="PATH",
        help="files, folders (with those below), globs",
    )
    made.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    made.add_argument(
        "--format", choices=writers.FORMATS, default="png", help="of masks; dicomseg is for DICOM"
    )
    made.add_argument("--no-overlays", action="store_true", help="masks and areas alone")
    made.add_argument(
        "--knees",
        choices=run.KNEES,
        default="auto",
        help="both: a film is cut at its midline, image left is the patient's right; auto: as a DICOM header says, "
        "else one",
    )
    made.add_argument(
        "--whole-femur",
        action="store_true",
        help="femur and patella as one structure; of a network with overlap classes the whole femur",
    )
    made.add_argument(
        "--outlines",
        action="store_true",
        help="also write the whole bones, which overlap, of a network with overlap classes: into outlines/, a file a "
        "bone, with dicomseg a segment a bone",
    )
    made.add_argument(
        "--in-front",
        choices=("tibia", "fibula"),
        default="",
        help="which of the two a mask shows where they overlap, of a network with overlap classes (tibia)",
    )
    made.add_argument(
        "--fit",
        choices=FITS,
        default="",
        help="how films come to the network's working grid: stretched to its shape, or with their aspect ratio, padded "
        "(as the network's description says)",
    )
    made.add_argument("--flip", action="store_true", help="average with the flipped image: twice the time")
    made.add_argument(
        "--anonymous",
        action="store_true",
        help="dicomseg without the patient's name, identifiers and dates, and with new UIDs, so that it no longer "
        "refers to its film; without this option they are copied from the film, as the standard wants; the other "
        "formats hold none",
    )
    made.add_argument(
        "--spacing",
        metavar="MM",
        help="the pixel spacing in mm, as one number or as ROW,COLUMN of the film as displayed, for files that state "
        "none (PNG, JPEG); a file that states its own keeps it, with a warning where the two differ",
    )
    groups = made.add_mutually_exclusive_group()
    groups.add_argument(
        "--group", metavar="NAME", help="sex=female, say: of all patients, for group-specific runs"
    )
    groups.add_argument(
        "--metadata",
        type=Path,
        metavar="CSV",
        help="the group of each: case_id (the file's name without its ending) and the groups' attributes",
    )
    made.add_argument(
        "--allow-similar-ids",
        action="store_true",
        help="accept case ids of --metadata that look alike, such as 7 and 0007, as different ones",
    )
    made.add_argument(
        "--batch-size",
        type=command_line.integer(1, 1024),
        default=8,
        metavar="N",
        help="files at a time (8; at most 32 are read at once)",
    )
    return made


def main(argv: Sequence[str]) -> int:
    """Segment radiographs and return the exit status that the help describes."""
    options = parser().parse_args(argv)
    output_folder.require_writable(options.out, "--out")
    spacing = None if options.spacing is None else stated_spacing.parse(options.spacing)
    made = predictor.load(
        *options.checkpoint,
        flip=options.flip,
        whole_femur=options.whole_femur,
        outlines=options.outlines,
        in_front=options.in_front,
        fit=options.fit,
        batch_size=options.batch_size,
    )
    table = options.metadata
    groups = table and routing.groups_of_cases(
        table,
        made.groups,
        allow_similar=options.allow_similar_ids,
        say=lambda note: print(f"note: {note}", flush=True),
    )
    tally = run.run(
        made,
        options.images,
        options.out,
        run.Settings(
            options.format,
            not options.no_overlays,
            options.knees,
            options.group,
            options.batch_size,
            groups,
            options.anonymous,
            spacing,
        ),
        say=lambda line: print(line, flush=True),
        complain=lambda line: print(f"failed: {line}", file=sys.stderr, flush=True),
    )
    before = f" ({tally.kept} of them before)" if tally.kept else ""
    counts = f"{tally.done} segmented{before}, {tally.warned} with a warning, {tally.failed} failed"
    print(f"{counts}: {options.out / run.AREAS}")
    if tally.without_spacing:
        files = "1 file states" if tally.without_spacing == 1 else f"{tally.without_spacing} files state"
        print(f"{files} no pixel spacing: areas in pixels only; state it with --spacing")
    if not tally.done:
        print("error: no file was segmented; correct those that are named above", file=sys.stderr)
        return NOTHING_DONE
    return SOME_FAILED if tally.failed else 0
