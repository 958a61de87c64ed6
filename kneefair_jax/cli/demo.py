"""`kneefair demo`: train and evaluate on phantoms, segment one phantom knee, and name the results.

The quick start's config takes two to three minutes on two CPU cores (docs/measured.md). The same command resumes an
interrupted demo.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from kneefair_jax.runtime import command

RUN, KNEE, SEGMENTED = "quickstart", "knee.png", "segmented"
CONFIG = "quickstart"
REMEDIES = command.Remedies(
    option="DIR",
    memory="close other programs",
    resume=lambda: "the same command resumes",
)
_EPILOG = f"""\
examples:
  kneefair demo
  kneefair demo runs --open

DIR gets {RUN}/ (a run of the config {CONFIG}: checkpoints, tables, report/index.html), {KNEE} (a phantom) and
{SEGMENTED}/ (its mask, overlay and areas). It takes two to three minutes on two CPU cores.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    command_parser = command.Parser(
        prog="kneefair demo",
        description="Train and evaluate on phantoms of knees, and segment one phantom; no data are needed.",
        epilog=_EPILOG,
    )
    command_parser.add_argument(
        "directory",
        nargs="?",
        type=Path,
        default=Path("kneefair_demo"),
        metavar="DIR",
        help="folder of the results (default: kneefair_demo)",
    )
    command_parser.add_argument("--open", action="store_true", help="open the report in a web browser")
    return command_parser


def main(argv: Sequence[str]) -> int:
    """Run the demo and return 0, or the status of `runtime.command`."""
    return command.run(lambda: _main(argv), REMEDIES)


def _main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    # Imported late, so that a signal during the seconds that the imports take ends in one line.
    import webbrowser

    from absl import logging

    from kneefair_jax.data.phantom import gallery
    from kneefair_jax.predict import cli as predict_cli
    from kneefair_jax.runs import config_file, modes
    from kneefair_jax.runtime import output_folder
    from kneefair_jax.training import config_checks

    logging.set_verbosity(logging.ERROR)
    directory: Path = options.directory
    output_folder.require_writable(directory, "DIR")
    report = directory / RUN / "report" / "index.html"
    print(f"1. train and evaluate on phantoms, two to three minutes: {directory / RUN}", flush=True)
    config = config_file.Parser().parse(CONFIG)
    config_checks.validate_config(config)
    modes.train(config, directory / RUN)
    print("2. segment a phantom knee by the shipped network", flush=True)
    knee, segmented = directory / KNEE, directory / SEGMENTED
    if not knee.exists() and (status := gallery.main(["--knee", str(knee)])):
        return status
    words = ["--checkpoint", "phantom", "--images", str(knee), "--out", str(segmented), "--overwrite"]
    status = predict_cli.main(words)
    print(f"report: {report}", flush=True)
    if status == 0:
        print(f"segmented knee: {segmented / 'overlays' / KNEE}", flush=True)
    if options.open:
        webbrowser.open(report.resolve().as_uri())
    return status
