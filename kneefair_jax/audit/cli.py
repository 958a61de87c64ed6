"""The arguments of `python -m kneefair_jax.audit`, and what it prints."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kneefair_jax import safe_text
from kneefair_jax.audit import equivalence_margin, label_map, mask_faults, result, run
from kneefair_jax.data import cell_text, layouts
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import bootstrap, endpoints, family
from kneefair_jax.report.schema import Report
from kneefair_jax.report.score_schema import GroupRow, Statistic
from kneefair_jax.report.text import failures, findings, formatting
from kneefair_jax.runtime import command_line, run_directory
from kneefair_jax.runtime.progress import Progress

_EPILOG = """\
examples:
  python -m kneefair_jax.audit --truth masks --pred predicted --metadata metadata.csv \\
      --labels femur=1 tibia=2 --attributes sex race --out report
  python -m kneefair_jax.audit --truth masks --pred unet=a nnunet=b --metadata metadata.csv \\
      --attributes sex age --bins age=50,64 --images films --delta dice=0.01 --out report
  python -m kneefair_jax.audit --scores cases.csv --attributes sex --out report

metadata.csv has a row per case: case_id (the masks' file name without its ending), the attributes, and optionally
patient_id (all cases of a patient have the same), mask and image (paths below --truth and --images, or seen from the
table), spacing_mm (mm per pixel, 0.3 or 0.3x0.2 for down x across) and split. Tables are UTF-8 or UTF-16 text with
commas, semicolons, tabs or bars between cells; ages may be in DICOM's form (065Y). A score table has case_id,
structure, dice, ... (a row per case and structure) or case_id, dice_femur, dice_tibia, ... (a row per case); the other
scores are iou, hd95_mm, assd_mm and nsd (ece is kept, not compared). Overlaps are between 0 and 1; an empty cell is a
structure absent from truth and prediction.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command_parser = command_line.Parser(
        prog="python -m kneefair_jax.audit",
        description="Measures how equally predicted masks, or a table of scores, serve groups of patients; writes one "
        "page and all numbers. No training, no GPU.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = command_parser.add_argument_group("what to audit: masks, or scores")
    what.add_argument(
        "--truth",
        type=Path,
        metavar="DIR",
        help="folder of the reference masks (PNG, NIfTI, NPY, DICOM-SEG, ...); by case id, or one file a structure "
        "of --labels: CASE_femur.png",
    )
    what.add_argument(
        "--pred",
        nargs="+",
        action="extend",
        metavar="[NAME=]DIR",
        help="folder of the predicted masks; several models are compared on the same patients",
    )
    what.add_argument(
        "--scores", type=Path, metavar="FILE", help="CSV or parquet of scores by case, instead of masks"
    )
    what.add_argument("--labels", nargs="+", action="extend", metavar="NAME=VALUES", help="femur=1 tibia=2,3 "
        "background=9 ignore=255 (pixels left out of every score), or a scheme: knee, knee_overlaps, knees, chest; "
        "whole bones may share values ('whole femur=1,5' 'whole patella=4,5'); by default the values, or a DICOM-SEG's "
        "segments, as found")  # fmt: skip
    what.add_argument(
        "--pred-labels",
        nargs="+",
        action="extend",
        metavar="NAME=VALUES",
        help="where the predictions use others",
    )
    what.add_argument(
        "--orientation",
        choices=layouts.FLAGS,
        default="none",
        help="lay out so each predicted mask whose header, or whose reference mask's, states no orientation (stored: "
        "as the stored pixels lie); where both headers state one, they decide; the notes name what fits",
    )
    who = command_parser.add_argument_group("who the cases are")
    who.add_argument("--metadata", type=Path, metavar="FILE", help="table of cases; needed with masks")
    who.add_argument("--attributes", nargs="+", required=True, metavar="NAME", help="columns to report by")
    who.add_argument(
        "--bins", nargs="+", default=[], metavar="NAME=EDGES", help="age=50,64 makes <=50, 51-64, >=65"
    )
    who.add_argument("--split", metavar="NAME", help="only the cases whose column split says so")
    who.add_argument(
        "--on-missing",
        choices=run.ON_MISSING,
        default="stop",
        help="a case without prediction: refuse it (default), leave it out, or score it as an empty mask",
    )
    who.add_argument(
        "--allow-similar-ids",
        action="store_true",
        help="accept identifiers and levels that look alike, such as 7 and 0007, or F and f, as different ones",
    )
    how = command_parser.add_argument_group("how")
    how.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the page and the numbers go"
    )
    how.add_argument("--images", type=Path, metavar="DIR", help="radiographs to draw the examples on")
    how.add_argument(
        "--suspicious",
        nargs="?",
        const="auto",
        default="",
        metavar="CHECKPOINT",
        help="also name reference masks that look wrong, by a network's masks of --images; by default that which ships",
    )
    how.add_argument(
        "--delta",
        nargs="+",
        default=[],
        metavar="SCORE=MARGIN",
        help="equivalence margin of means, and as a share of failure rates: dice=0.01",
    )
    how.add_argument(
        "--readers",
        type=Path,
        metavar="FILE",
        help="scores, or masks (case_id, reader, mask), of two readers of 5 patients or more: the end nearest to "
        "zero of the interval of their mean difference is the margin",
    )
    how.add_argument(
        "--failure-dice",
        default="0.5",
        metavar="DICE",
        help="a segmentation with a lower Dice of any structure counts as failed (default: 0.5)",
    )
    how.add_argument(
        "--endpoint",
        action="append",
        metavar="SCORE>=NUMBER",
        help="share of patients who reach a threshold in every structure and case; repeatable, quoted: "
        f"{' '.join(f'--endpoint "{text}"' for text in endpoints.EndpointSettings().thresholds)} are the default",
    )
    how.add_argument(
        "--primary",
        default="dice",
        metavar="SCORE[:NAME,...]",
        help="the score, and the attributes if not all, whose gaps are tested as one family; all else is exploratory "
        "(default: dice)",
    )
    how.add_argument(
        "--no-intersections",
        dest="intersections",
        action="store_false",
        help="do not report by pairs of attributes",
    )
    how.add_argument(
        "--min-group-patients",
        type=command_line.integer(1, 1_000_000),
        default=10,
        metavar="N",
        help="smaller groups are not ranked",
    )
    how.add_argument(
        "--draws",
        type=command_line.integer(bootstrap.MIN_DRAWS, command_line.MAX_DRAWS),
        default=10_000,
        metavar="N",
        help=f"bootstrap resamples, {bootstrap.MIN_DRAWS:,} to {command_line.MAX_DRAWS:,}",
    )
    how.add_argument(
        "--seed",
        type=command_line.integer(0, command_line.SEED.high),
        default=0,
        metavar="N",
        help="of the bootstrap",
    )
    return command_parser


def main(argv: Sequence[str]) -> int:
    """Audit, write the pages, and print their main numbers."""
    options = parser().parse_args(argv)
    audit = _audited(options, argv)
    with Progress("writing the results"):
        pages = audit.write(options.out)
    for note in audit.notes:
        print(f"note: {note}")
    for model, report in audit.reports.items():
        print(f"\n{model}:" if len(pages) > 1 else "")
        print(text(report))
        print(f"page: {pages[model]}", flush=True)
    if audit.mask_faults is not None and not audit.mask_faults.empty:
        print("\n".join(["", *mask_faults.closing_lines(audit.mask_faults)]))
        print(f"all of them: {options.out / mask_faults.FILE}", flush=True)
    return 0


def text(report: Report) -> str:
    """The primary score by group, a line each, the gaps, and failed segmentations."""
    primary = family.from_report(report)
    scores = report["scores"][primary.score]
    attributes = report["cohort"]["attributes"]
    rows = [("", "patients", formatting.score_title(primary.score), "95 % interval")]
    entries: dict[str, GroupRow] = {"all": {**scores["overall"]}, **scores["groups"]}
    for name, entry in entries.items():
        rows.append(
            (
                formatting.group_title(name, attributes),
                formatting.count(entry["patients"]),
                formatting.number(entry["mean"]),
                formatting.interval(entry["interval"]),
            )
        )
    notes = ["", *(f"  {entry['unranked']}" if entry.get("unranked") else "" for entry in entries.values())]
    lines = [line + note for line, note in zip(safe_text.align_columns(rows), notes, strict=True)]
    for key, summary in scores["summaries"].items():
        test = summary["test"]
        line = f"gap by {key.replace(',', ' x ')}: {_gap(summary['gap'])}"
        if not primary.covers(key) or "," in key:
            line += ", exploratory"
        elif test and test["p_holm"] is not None:
            line += f"; without failures {_gap(findings.gap_without_failures(summary))}"
            line += f", {formatting.p_equals(test['p_holm'])} (interval and p after Holm's correction)"
        lines.append(line)
    return "\n".join([*lines, *failures.sentences(report)])


def _gap(gap: Statistic) -> str:
    ends = gap["interval"]
    return formatting.number(gap["value"]) + (f" {formatting.interval(ends)}" if ends else "")


def _audited(options: argparse.Namespace, argv: Sequence[str]) -> result.Audit:
    result.require_folder(options.out)
    settings = result.Settings(
        options.min_group_patients,
        options.draws,
        options.seed,
        equivalence_margin.parse(options.delta),
        _command(options, argv),
        _endpoints(options.failure_dice, options.endpoint),
        (options.out,),
        primary=family.parse(options.primary),
        intersections=options.intersections,
    )
    shared = {
        "bins": _bins(options.bins),
        "split": options.split,
        "on_missing": options.on_missing,
        "readers": options.readers,
        "allow_similar_ids": options.allow_similar_ids,
        "settings": settings,
    }
    if options.scores is not None:
        given = [
            name
            for name in ("truth", "pred", "labels", "pred_labels", "images", "suspicious")
            if getattr(options, name)
        ] + (["orientation"] if options.orientation != "none" else [])
        if given:
            raise InputError(
                f"--scores and --{given[0].replace('_', '-')}: an audit is of scores or of masks"
            )
        return run.table(options.scores, options.attributes, metadata=options.metadata, **shared)
    if not (options.truth and options.pred and options.metadata):
        raise InputError(
            "give --truth, --pred and --metadata to audit masks, or --scores to audit a table of scores"
        )
    return run.masks(
        options.truth,
        _models(options.pred),
        options.metadata,
        options.attributes,
        labels=label_map.parse(options.labels) if options.labels else None,
        pred_labels=label_map.parse(options.pred_labels, "--pred-labels") if options.pred_labels else None,
        orientation=options.orientation,
        images=options.images,
        suspicious=options.suspicious,
        **shared,
    )


def _command(options: argparse.Namespace, argv: Sequence[str]) -> str:
    """The command line, with the last part alone of each path that is absolute."""
    models = [Path(path) for word in options.pred or () for path in (word, word.partition("=")[2]) if path]
    single = (options.truth, options.scores, options.metadata, options.images, options.readers, options.out)
    checkpoint = [Path(options.suspicious)] if options.suspicious else []
    folders = [*models, *checkpoint, *(path for path in single if path is not None)]
    words = [safe_text.strip_paths(word, *folders) for word in argv]
    return run_directory.public_command(["kneefair_jax.audit", *words]).replace("python", "python -m", 1)


def _models(words: Sequence[str]) -> dict[str, Path]:
    """`NAME=DIR`, or a folder that is called by its own name."""
    models: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        path = Path(folder) if equals and not Path(word).is_dir() else Path(word)
        name = name if path != Path(word) else path.resolve().name
        if not name:
            raise InputError(f"--pred {word!r}: write NAME=DIR, or DIR")
        if name in models:
            raise InputError(
                f"--pred: two models are called {name!r}; name them, as in a={models[name]} b={path}"
            )
        models[name] = path
    return models


def _endpoints(failure_dice: str, thresholds: Sequence[str] | None) -> endpoints.EndpointSettings:
    try:
        dice = cell_text.parse_number(failure_dice)
    except ValueError:
        raise InputError(
            f"--failure-dice {failure_dice!r}: give a Dice above 0 and below 1, such as 0.5"
        ) from None
    settings = endpoints.EndpointSettings(dice)
    return settings if thresholds is None else settings._replace(thresholds=tuple(thresholds))


def _bins(words: Sequence[str]) -> dict[str, list[float]]:
    bins = {}
    for word in words:
        name, _, edges = word.partition("=")
        try:
            bins[name] = [cell_text.parse_number(edge) for edge in edges.split(",")]
        except ValueError:
            raise InputError(f"--bins {word!r}: write column=edges, such as age=50,64") from None
    return bins
