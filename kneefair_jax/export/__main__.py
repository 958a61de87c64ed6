"""`python -m kneefair_jax.export RUN`: a finished run's selected checkpoint -> weights that `predict` takes."""

import sys
from collections.abc import Sequence
from pathlib import Path

from kneefair_jax import safe_text
from kneefair_jax.errors import InputError
from kneefair_jax.export import network_files
from kneefair_jax.runtime import command_line


@safe_text.terminal()
def main(argv: Sequence[str]) -> int:
    """Exports; 2 for what a person has to correct, with a sentence on stderr."""
    parser = command_line.Parser(prog="python -m kneefair_jax.export", description=__doc__)
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a finished run (launch.py --workdir)"
    )
    parser.add_argument("--out", type=Path, help="folder of the weights; by default RUN/export")
    parser.add_argument("--name", default=network_files.NAME, help="of the files, without ending")
    parser.add_argument("--half", action="store_true", help="round to float16: half the bytes")
    parser.add_argument("--license", metavar="ID", help="of the weights, for the model card: apache-2.0, say")
    options = parser.parse_args(argv)
    try:
        paths = network_files.export(
            options.run,
            options.out or options.run / network_files.FOLDER,
            options.name,
            half=options.half,
            license_id=options.license,
        )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for path in paths:
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB; what it is, in {path.with_suffix('.json').name}")
    print(f"model card: {paths[0].parent / f'{options.name}.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
