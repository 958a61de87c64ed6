"""`kneefair export RUN`, or `python -m kneefair_jax.export RUN`: export a finished run's checkpoint for `predict`.

The modules that load JAX are imported late, so that a signal during these seconds ends in one line.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kneefair_jax.runtime import command

REMEDIES = command.Remedies(
    option="--out",
    memory="close other programs",
    resume=lambda: "the same command starts again",
)
_EPILOG = """\
examples:
  kneefair export runs/mine
  kneefair export runs/mine --out weights --name knee --half --license apache-2.0
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from kneefair_jax.export import network_files
    from kneefair_jax.weights import FITS

    command_parser = command.Parser(
        prog="kneefair export",
        description="Export the selected checkpoint of a finished run as weights for `predict`.",
        epilog=_EPILOG,
    )
    command_parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a finished run (launch.py --workdir)"
    )
    command_parser.add_argument("--out", type=Path, help="folder of the weights; by default RUN/export")
    command_parser.add_argument("--name", default=network_files.NAME, help="of the files, without ending")
    command_parser.add_argument(
        "--overwrite", action="store_true", help="replace earlier weights of this name"
    )
    command_parser.add_argument("--half", action="store_true", help="round to float16: half the bytes")
    command_parser.add_argument(
        "--fit",
        choices=FITS,
        default=FITS[0],
        help="how predict resizes radiographs to the working resolution: stretch to its shape, or pad, which keeps the "
        "aspect ratio",
    )
    command_parser.add_argument(
        "--false-alarms",
        type=float,
        default=network_files.FALSE_ALARMS,
        metavar="SHARE",
        help="share of the validation cases that would get a warning for their predicted Dice (%(default)s)",
    )
    command_parser.add_argument(
        "--license", metavar="ID", help="of the weights, for the model card: apache-2.0, say"
    )
    return command_parser


def main(argv: Sequence[str]) -> int:
    """Export the selected checkpoint of a run; return 0, or the status of `runtime.command`."""
    return command.run(lambda: _main(argv), REMEDIES)


def _main(argv: Sequence[str]) -> int:
    from kneefair_jax.export import network_files
    from kneefair_jax.predict import quality

    options = parser().parse_args(argv)
    paths = network_files.export(
        options.run,
        options.out or options.run / network_files.FOLDER,
        options.name,
        half=options.half,
        fit=options.fit,
        license_id=options.license,
        overwrite=options.overwrite,
        false_alarms=options.false_alarms,
    )
    for path in paths:
        size = file_size(path.stat().st_size)
        print(f"{path}: {size}; its description is in {path.with_suffix('.json').name}")
    if "quality" not in json.loads(paths[0].with_suffix(".json").read_text()):
        print(
            f"predicted Dice: not calibrated; it needs one network for all groups, {quality.MIN_CASES} validation "
            "cases with reference masks, and for a run of an earlier version --mode=evaluate first"
        )
    print(f"model card: {paths[0].parent / f'{options.name}.md'}")
    return 0


def file_size(count: int) -> str:
    """Format bytes as `7.8 MB`, or as `1.2 kB` below 0.1 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    command.exit_process(main(sys.argv[1:]))
