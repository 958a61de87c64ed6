"""`kneefair predict`: segment radiographs, and export the run that the command names if it has no weights yet."""

from collections.abc import Sequence
from pathlib import Path

from kneefair_jax.predict.__main__ import REMEDIES
from kneefair_jax.runtime import command


def main(argv: Sequence[str]) -> int:
    """Segment radiographs and return the exit status that `--help` describes."""
    return command.run(lambda: _main(argv), REMEDIES)


def _main(argv: Sequence[str]) -> int:
    # Imported late, so that a signal during the seconds that the imports take ends in one line.
    from kneefair_jax.predict import cli

    options = cli.parser().parse_args(argv)
    for name in cli.networks(options):
        if (Path(name) / "config.json").is_file():
            _export_once(Path(name))
    return cli.main(argv)


def _export_once(run: Path) -> None:
    """Export a run into its own folder, unless it has weights."""
    from kneefair_jax.export import network_files
    from kneefair_jax.weights.network import SUFFIX

    folder = run / network_files.FOLDER
    if not any(folder.glob(f"*{SUFFIX}")):
        paths = network_files.export(run, folder)
        print(f"exported: {paths[0].parent}", flush=True)
