"""`kneefair export`, or `python -m kneefair_jax.export`: a finished run or a shipped network as files.

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
  kneefair export phantom --format onnx --half --out artifacts
  kneefair export runs/fold0 runs/fold1 --format jax --out artifacts --name folds
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    from kneefair_jax.export import artifacts, network_files
    from kneefair_jax.weights import FITS

    command_parser = command.Parser(
        prog="kneefair export",
        description="Export the selected checkpoint of a finished run as weights for `predict`, or as a file that "
        "segments films without this package.",
        epilog=_EPILOG,
    )
    command_parser.add_argument(
        "sources",
        nargs="+",
        metavar="RUN",
        help="folder of a finished run (launch.py --workdir), a shipped network or a .safetensors file; several are "
        "averaged in one file of --format jax or onnx",
    )
    command_parser.add_argument(
        "--format",
        choices=("safetensors", *artifacts.FORMATS),
        default="safetensors",
        help="safetensors: weights for `predict`; jax, onnx: a program from the pixels of a film to its mask "
        "(default: %(default)s)",
    )
    command_parser.add_argument("--out", type=Path, help="folder of the files; by default RUN/export")
    command_parser.add_argument(
        "--name",
        help=f"of the files, without ending (default: {network_files.NAME} for runs, otherwise that of the network)",
    )
    command_parser.add_argument(
        "--overwrite", action="store_true", help="replace earlier files of this name and format"
    )
    command_parser.add_argument("--half", action="store_true", help="round to float16: half the bytes")
    command_parser.add_argument(
        "--fit",
        choices=FITS,
        default="",
        help="how radiographs are resized to the working resolution: stretch to its shape, or pad, which keeps the "
        "aspect ratio (default: as the network's description says; a run's new weights: stretch)",
    )
    command_parser.add_argument(
        "--in-front",
        choices=("tibia", "fibula"),
        default="",
        help="which of the two a mask of --format jax or onnx shows where they overlap, for a network with overlap "
        "classes (default: tibia)",
    )
    command_parser.add_argument(
        "--false-alarms",
        type=float,
        metavar="SHARE",
        help="share of the validation cases that would get a warning for their predicted Dice "
        f"(default: {network_files.FALSE_ALARMS})",
    )
    command_parser.add_argument(
        "--license", metavar="ID", help="of the weights, for the model card: apache-2.0, say"
    )
    return command_parser


def main(argv: Sequence[str]) -> int:
    """Export networks; return 0, or the status of `runtime.command`."""
    return command.run(lambda: _main(argv), REMEDIES)


def _main(argv: Sequence[str]) -> int:
    from kneefair_jax.errors import InputError
    from kneefair_jax.export import artifacts, network_files

    options = parser().parse_args(argv)
    is_single = len(options.sources) == 1
    is_run = is_single and not _is_network(options.sources[0])
    if not is_run and options.out is None:
        raise InputError("--out: give the folder of the files; only a single run has one of its own")
    out = options.out or Path(options.sources[0]) / network_files.FOLDER
    default_name = network_files.NAME if is_run or not is_single else Path(options.sources[0]).stem
    name = default_name if options.name is None else options.name
    if options.format in artifacts.FORMATS:
        _refuse_unused(options, "license", "false_alarms", reason="for weights of a run")
        paths = artifacts.export(
            options.sources,
            out,
            name,
            options.format,
            half=options.half,
            fit=options.fit,
            in_front=options.in_front,
            overwrite=options.overwrite,
        )
    elif is_run:
        _refuse_unused(options, "in_front", reason="for --format jax or onnx; predict has it too")
        paths = _export_weights(options, Path(options.sources[0]), out, name)
    else:
        if not is_single:
            raise InputError(
                "--format safetensors: give one run; `predict` averages several, and so do --format jax and onnx"
            )
        _refuse_unused(options, "license", "false_alarms", "fit", "in_front", reason="for a run")
        paths = network_files.copy(
            options.sources[0], out, name, half=options.half, overwrite=options.overwrite
        )
    for path in paths:
        description = artifacts.description(path)
        print(f"{path}: {file_size(path.stat().st_size)}; its description is in {description.name}")
    if options.format not in artifacts.FORMATS and is_run:
        print(f"model card: {out / f'{name}.md'}")
    return 0


def _is_network(source: str) -> bool:
    """Return whether a source is a shipped network or a file, and not a run."""
    from kneefair_jax import weights

    return source in weights.NAMES or source.endswith(weights.SUFFIX)


def _refuse_unused(options: argparse.Namespace, *names: str, reason: str) -> None:
    """Refuse options that would have no effect."""
    from kneefair_jax.errors import InputError

    for name in names:
        if getattr(options, name) not in (None, ""):
            raise InputError(f"--{name.replace('_', '-')}: it is {reason}; leave it out")


def _export_weights(options: argparse.Namespace, run: Path, out: Path, name: str) -> list[Path]:
    from kneefair_jax.export import network_files
    from kneefair_jax.predict import quality
    from kneefair_jax.weights import FITS

    false_alarms = options.false_alarms
    paths = network_files.export(
        run,
        out,
        name,
        half=options.half,
        fit=options.fit or FITS[0],
        license_id=options.license,
        overwrite=options.overwrite,
        false_alarms=network_files.FALSE_ALARMS if false_alarms is None else false_alarms,
    )
    if "quality" not in json.loads(paths[0].with_suffix(".json").read_text()):
        print(
            f"predicted Dice: not calibrated; it needs one network for all groups, {quality.MIN_CASES} validation "
            "cases with reference masks, and for a run of an earlier version --mode=evaluate first"
        )
    return paths


def file_size(count: int) -> str:
    """Format bytes as `7.8 MB`, or as `1.2 kB` below 0.1 MB."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


if __name__ == "__main__":
    command.exit_process(main(sys.argv[1:]))
