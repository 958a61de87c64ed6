"""`kneefair twins`: how much one property of a film changes a network's masks of the same knee."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import command

if TYPE_CHECKING:  # it takes a second
    import numpy as np

REMEDIES = command.Remedies(
    option="--out",
    memory="give smaller films: --size",
    resume=lambda: "results are written at the end; the same command starts again",
)
KNEES, EFFECTS = "twins.csv", "twin_effects.csv"
_EPILOG = """\
examples:
  kneefair twins runs/mine --out twins
  kneefair twins --checkpoint phantom --switches contrast noise --knees 60 --out twins

Each knee is a phantom that is drawn without and with one switch; all else about the two films is equal, so the change
of a score is the effect of that switch on this knee. Scores are Dice by whole bone and the absolute errors of joint
space, femorotibial angle and femoral width against each film's exact mask.

OUT gets twin_effects.csv, the mean change of each score by switch with its 95 % interval over the knees that have the
score on both films (column knees: a bone may be measurable on one alone), and twins.csv, the scores of each knee.

switches: morphology (proportions of the bones), contrast (less mineral), noise (fewer photons), soft_tissue (a wider
limb with more scatter), osteophytes, marker (a sign in the corner of the film).
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from kneefair_jax import weights

    result = command.Parser(
        prog="kneefair twins",
        description="Measure how one planted property of a phantom film changes a network's masks of the same knee.",
        epilog=_EPILOG,
    )
    result.add_argument(
        "run", nargs="?", default="", metavar="RUN", help="folder of a finished run, whose network is tested"
    )
    result.add_argument(
        "--checkpoint",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help=f"a shipped network ({', '.join(weights.NAMES)}), an exported run directory or a .safetensors file",
    )
    result.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    result.add_argument("--overwrite", action="store_true", help="replace an earlier result in --out")
    result.add_argument("--switches", nargs="+", metavar="NAME", help="some of those below (default: all)")
    result.add_argument(
        "--knees", type=command.integer(2, 100_000), default=30, metavar="N", help="phantoms (default: 30)"
    )
    result.add_argument(
        "--size",
        type=command.integer(64, 4096),
        default=512,
        metavar="N",
        help="pixels a side (default: 512)",
    )
    result.add_argument(
        "--seed", type=command.integer(0, command.SEED.high), default=0, metavar="N", help="of the knees"
    )
    return result


def main(argv: Sequence[str]) -> int:
    """Score twins, write the tables and print the effects; runs must have been exported."""
    options = parser().parse_args(argv)
    from kneefair_jax import measurements, safe_text
    from kneefair_jax.audit import twins
    from kneefair_jax.predict import cli, measuring, predictor
    from kneefair_jax.runtime import output_folder, written_files

    output_folder.require_writable(options.out, "--out")
    written_files.require_new(options.out, "twins", "--out", [KNEES, EFFECTS], overwrite=options.overwrite)
    network = predictor.load(*cli.networks(options))
    network.require_group(None)
    if measurements.knees_of(network.structures) != ("",):
        raise InputError(
            f"the network segments {', '.join(network.structures)}; twins need one that segments femur and "
            "tibia of one knee"
        )
    if network.whole_bones:
        network = predictor.load(*cli.networks(options), outlines=True)

    def segment(film: "np.ndarray") -> dict[str, "np.ndarray"]:
        (prediction,) = network.segment([film[..., None]], warn=False)
        return measuring.bones_of(prediction)

    films = twins.Films((options.size, options.size), seed=options.seed)
    table = twins.study(segment, options.knees, options.switches or twins.SWITCHES, films)
    effects = twins.effects(table)
    with written_files.replacement(options.out, "twins", "--out", overwrite=options.overwrite) as stage:
        table.to_csv(stage / KNEES, index=False)
        effects.to_csv(stage / EFFECTS, index=False)
    rows = [("switch", "score", "mean change", "95 % interval", "knees")]
    for effect in effects.itertuples():
        digits = 2 if effect.unit else 4
        mean, low, high = (f"{value:+.{digits}f}" for value in (effect.mean, effect.low, effect.high))
        score = f"{effect.score}, {effect.unit}".removesuffix(", ")
        interval = f"[{low}, {high}]" if effect.knees > 1 else "-"
        rows.append((effect.switch, score, mean if effect.knees else "-", interval, str(effect.knees)))
    print("\n".join(safe_text.align_columns(rows)))
    print(f"effects: {options.out / EFFECTS}; by knee: {options.out / KNEES}")
    return 0
