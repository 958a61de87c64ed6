"""The arguments and the output of `python -m kneefair_jax.export RUN`."""

from collections.abc import Sequence
from pathlib import Path

from kneefair_jax.export import network_files
from kneefair_jax.runtime import command
from kneefair_jax.weights.network import FITS


def main(argv: Sequence[str]) -> int:
    """Export the selected checkpoint of a run as weights and a model card."""
    parser = command.Parser(
        prog="python -m kneefair_jax.export",
        description="Export the selected checkpoint of a finished run as weights for `predict`.",
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a finished run (launch.py --workdir)"
    )
    parser.add_argument("--out", type=Path, help="folder of the weights; by default RUN/export")
    parser.add_argument("--name", default=network_files.NAME, help="of the files, without ending")
    parser.add_argument("--half", action="store_true", help="round to float16: half the bytes")
    parser.add_argument(
        "--fit",
        choices=FITS,
        default=FITS[0],
        help="how predict resizes radiographs to the working resolution: stretch to its shape, or pad, which keeps the "
        "aspect ratio",
    )
    parser.add_argument("--license", metavar="ID", help="of the weights, for the model card: apache-2.0, say")
    options = parser.parse_args(argv)
    paths = network_files.export(
        options.run,
        options.out or options.run / network_files.FOLDER,
        options.name,
        half=options.half,
        fit=options.fit,
        license_id=options.license,
    )
    for path in paths:
        print(
            f"{path}: {path.stat().st_size / 1e6:.1f} MB; its description is in {path.with_suffix('.json').name}"
        )
    print(f"model card: {paths[0].parent / f'{options.name}.md'}")
    return 0
