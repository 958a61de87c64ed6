"""The arguments of `kneefair audit`."""

import argparse
from pathlib import Path

from kneefair_jax.audit import options
from kneefair_jax.data.readers import orientation
from kneefair_jax.fairness import bootstrap, endpoints
from kneefair_jax.runtime import command

_EPILOG = """\
examples:
  kneefair audit --truth masks --pred predicted --metadata metadata.csv \\
      --labels femur=1 tibia=2 --attributes sex race --out report
  kneefair audit --truth masks --pred unet=a nnunet=b --metadata metadata.csv \\
      --attributes sex age --bins age=50,64 --images films --equivalence-margin dice=0.01 --out report
  kneefair audit --scores cases.csv --attributes sex --out report
  kneefair audit --predicted-dice segmented/areas.csv --metadata metadata.csv --attributes sex --out report

metadata.csv has a row per case: case_id (the masks' file name without its ending), the attributes, and optionally
patient_id (the same for all cases of a patient), mask and image (paths relative to --truth and --images, or to the
table), spacing_mm (mm per pixel, 0.3 or 0.3x0.2 for down x across) and split. Tables are Excel workbooks
(FILE.xlsx:SHEET for one of several sheets) or text with commas, semicolons, tabs or bars between cells; ages may be in
DICOM's form (065Y). A score table has case_id,
structure, dice, ... (a row per case and structure) or case_id, dice_femur, dice_tibia, ... (a row per case); the other
scores are iou, hd95_mm, assd_mm and nsd (ece is stored, not compared). Overlaps are between 0 and 1; an empty cell is a
structure absent from truth and prediction. To compare models, put the rows of all models into one table, with the name
of the model in the column model; each model needs a score of every case.
"""


# Long, since it is a list of arguments with their help.
def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_parser = command.Parser(
        prog="kneefair audit",
        description="Audit predicted masks, or a table of scores, for unequal quality between groups of patients; "
        "write one page and all numbers. This needs no training and no GPU.",
        epilog=_EPILOG,
    )
    inputs = command_parser.add_argument_group("masks or scores to audit")
    inputs.add_argument(
        "--truth",
        type=Path,
        metavar="DIR",
        help="folder of the reference masks (PNG, NIfTI, NPY, DICOM-SEG, ...); by case id, or one file per "
        "structure of --labels: CASE_femur.png",
    )
    inputs.add_argument(
        "--pred",
        nargs="+",
        action="extend",
        metavar="[NAME=]DIR",
        help="folder of the predicted masks; several models are compared on the same patients",
    )
    inputs.add_argument(
        "--pred-mirrored",
        type=Path,
        metavar="DIR",
        help="masks of the same films, flipped from left to right before they were segmented: the mirror test compares "
        "them, flipped back, with --pred, by group and without reference masks (PNG, TIFF, NPY)",
    )
    inputs.add_argument(
        "--scores",
        type=Path,
        metavar="FILE",
        help="CSV or parquet of scores by case, instead of masks; a column model holds the compared models",
    )
    inputs.add_argument(
        "--predicted-dice",
        type=Path,
        metavar="AREAS.CSV",
        help="areas.csv of kneefair predict: without --truth and --scores, the predicted Dice is audited; beside them, "
        "compared with the measured one by group",
    )
    inputs.add_argument("--labels", nargs="+", action="extend", metavar="NAME=VALUES", help="femur=1 tibia=2,3 "
        "background=9 ignore=255 (excluded from every score), or a scheme: knee, knee_overlaps, knees, chest; "
        "whole bones may share values ('whole femur=1,5' 'whole patella=4,5'); by default the values, or a DICOM-SEG's "
        "segments, in the files")  # fmt: skip
    inputs.add_argument(
        "--pred-labels",
        nargs="+",
        action="extend",
        metavar="NAME=VALUES",
        help="labels of the predictions, if they differ; of one model after its name: femur=1 tibia=2 b: femur=10 "
        "tibia=20",
    )
    inputs.add_argument("--annotated", default="", metavar="COLUMN", help="column of --metadata with the structures "
        "that a reference mask shows, where not all were annotated: 'femur;tibia', 'whole femur', or nothing for "
        "all; the others are not scored")  # fmt: skip
    inputs.add_argument(
        "--orientation",
        choices=orientation.FLAGS,
        default="none",
        help="transform each predicted mask if its header, or its reference mask's, states no orientation (stored: "
        "compare stored pixels); if both headers state one, they decide; the notes suggest an orientation that fits",
    )
    cohort = command_parser.add_argument_group("cases")
    cohort.add_argument("--metadata", type=Path, metavar="FILE", help="table of cases; needed with masks")
    cohort.add_argument("--attributes", nargs="+", required=True, metavar="NAME", help="columns to report by")
    cohort.add_argument(
        "--bins", nargs="+", default=[], metavar="NAME=EDGES", help="age=50,64 makes <=50, 51-64, >=65"
    )
    cohort.add_argument("--split", metavar="NAME", help="only the cases with this value in the column split")
    cohort.add_argument(
        "--on-missing",
        choices=options.ON_MISSING,
        default="stop",
        help="a case without prediction or scores: refuse it (default), exclude it for all models, or score it as an "
        "empty mask (of masks alone)",
    )
    cohort.add_argument(
        "--allow-similar-ids",
        action="store_true",
        help="accept identifiers and levels that look alike, such as 7 and 0007, or F and f, as different",
    )
    measured = command_parser.add_argument_group("measurements in millimeters and degrees")
    measured.add_argument(
        "--measure",
        action="store_true",
        help="measure joint space, angles and widths on both masks of each knee, and compare the errors by group",
    )
    measured.add_argument(
        "--magnification",
        type=float,
        metavar="FACTOR",
        help="of the bones on the detector, where the spacing is the detector's: lengths are refused otherwise (column "
        "magnification of --metadata: by case)",
    )
    measured.add_argument(
        "--clinical-margin",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=ERROR",
        help="error that matters, as jsw_min_medial=0.5 fta=2 (default: the reproducibility, 0.2 mm and 1 degree)",
    )
    measured.add_argument(
        "--decision",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="value on whose sides decisions differ, as jsw_min_medial=3: patients on the wrong side are counted",
    )
    measured.add_argument(
        "--manual",
        type=Path,
        metavar="FILE",
        help="table of readers' values to compare with, in place of the reference masks, which may be left out (no "
        "--truth): case_id, measurement, value",
    )
    analysis = command_parser.add_argument_group("analysis and output")
    analysis.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    analysis.add_argument("--overwrite", action="store_true", help="replace an earlier audit in --out")
    analysis.add_argument("--title", default="", metavar="TEXT", help="heading of the page")
    analysis.add_argument("--author", default="", metavar="NAME", help="who made the audit, for the page")
    analysis.add_argument(
        "--pdf",
        action="store_true",
        help="also print summary.pdf, one or two pages, by Chromium or WeasyPrint",
    )
    analysis.add_argument("--images", type=Path, metavar="DIR", help="radiographs to draw the examples on")
    analysis.add_argument(
        "--label-errors",
        nargs="?",
        const="auto",
        default="",
        metavar="CHECKPOINT",
        help="also list label errors: reference masks that disagree with a network's masks of --images (default: the "
        "shipped network)",
    )
    analysis.add_argument(
        "--equivalence-margin",
        "--delta",
        nargs="+",
        default=[],
        metavar="SCORE=MARGIN",
        help="equivalence margin of means, and as a share of failure rates: dice=0.01",
    )
    analysis.add_argument(
        "--readers",
        type=Path,
        metavar="FILE",
        help="scores, or masks (case_id, reader, mask), of two readers of 5 patients or more: the end nearest to "
        "zero of the interval of their mean difference is the margin",
    )
    analysis.add_argument(
        "--failure-dice",
        default="0.5",
        metavar="DICE",
        help="a segmentation with a lower Dice of any structure counts as failed (default: 0.5)",
    )
    analysis.add_argument(
        "--endpoint",
        action="append",
        metavar="SCORE>=NUMBER",
        help="share of patients who reach a threshold in every structure and case; repeatable, quoted: "
        f"{' '.join(f'--endpoint "{text}"' for text in endpoints.EndpointSettings().thresholds)} are the default",
    )
    analysis.add_argument(
        "--primary",
        default="dice",
        metavar="SCORE[:NAME,...]",
        help="the score, and the attributes if not all, whose gaps are tested as one family; all else is exploratory "
        "(default: dice)",
    )
    analysis.add_argument(
        "--no-intersections",
        dest="intersections",
        action="store_false",
        help="do not report by pairs of attributes",
    )
    analysis.add_argument(
        "--min-group-patients",
        type=command.integer(1, 1_000_000),
        default=10,
        metavar="N",
        help="smaller groups are not ranked",
    )
    analysis.add_argument(
        "--draws",
        type=command.integer(bootstrap.MIN_DRAWS, command.MAX_DRAWS),
        default=10_000,
        metavar="N",
        help=f"bootstrap resamples, and permutations of the tests, {bootstrap.MIN_DRAWS:,} "
        f"to {command.MAX_DRAWS:,}",
    )
    analysis.add_argument(
        "--seed",
        type=command.integer(0, command.SEED.high),
        default=0,
        metavar="N",
        help="seed of the resamples and permutations",
    )
    return command_parser
