"""Options of an audit: its choice of cases, and the settings for reading masks and for computing the numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kneefair_jax.data import cell_text, label_map, workbook
from kneefair_jax.data.label_map import Labels
from kneefair_jax.data.readers import orientation
from kneefair_jax.errors import InputError
from kneefair_jax.fairness import bootstrap, endpoints, family
from kneefair_jax.fairness.endpoints import EndpointSettings
from kneefair_jax.fairness.equivalence import ReaderAgreement
from kneefair_jax.fairness.family import Primary
from kneefair_jax.measurements import spacing
from kneefair_jax.measurements.definitions import check_names
from kneefair_jax.runtime import run_directory

ON_MISSING = ("stop", "skip", "zero")


@dataclass(frozen=True)
class CaseOptions:
    """The choice of the cases that an audit reads, of masks or of a table of scores.

    Attributes:
        bins: attribute -> ascending edges, for numbers.
        split: the value of the table's column `split` to keep; None for all rows.
        on_missing: what to do with a case without a prediction, or without scores: `stop` refuses it, `skip` excludes
            it for every model (and a case without a reference mask), `zero` scores it as an empty mask, which needs
            masks.
        readers: a table of two readers, whose mean difference gives the equivalence margin
            (`equivalence_margin.of_readers`).
        allow_similar_ids: whether identifiers and levels may look alike, such as 7 and 0007.
        predicted_dice: `areas.csv` of `kneefair predict` for the audited masks, whose predicted Dice is compared with
            the measured one (`predicted_dice`); None for none.
    """

    bins: Mapping[str, Sequence[float]] = field(default_factory=dict)
    split: str | None = None
    on_missing: str = "stop"
    readers: str | Path | None = None
    allow_similar_ids: bool = False
    predicted_dice: str | Path | pd.DataFrame | None = None

    def check(self) -> None:
        """Refuse options that have no meaning.

        Raises:
            InputError: the message names the option and its values.
        """
        if self.on_missing not in ON_MISSING:
            raise InputError(f"on_missing={self.on_missing!r}: give one of {', '.join(ON_MISSING)}")


class MeasurementOptions(NamedTuple):
    """How an audit measures knees.

    Attributes:
        magnification: of the bones on the detector, for all films whose spacing is that of the detector; NaN if it is
            not stated. The table's column `magnification` precedes it.
        margins: measurement -> absolute error that matters, in place of its reproducibility.
        thresholds: measurement -> value on whose sides decisions differ.
        manual: a table of readers' values, which replace those of the reference masks; None for none.
    """

    magnification: float = float("nan")
    margins: Mapping[str, float] = {}
    thresholds: Mapping[str, float] = {}
    manual: Path | pd.DataFrame | None = None

    def check(self) -> None:
        """Refuse options that have no meaning.

        Raises:
            InputError: the message names the option and its values.
        """
        spacing.check_magnification(self.magnification, "magnification")
        check_names(self.margins, "margins")
        check_names(self.thresholds, "thresholds")
        if wrong := [name for name, margin in self.margins.items() if not margin > 0]:
            raise InputError(f"margins: give {wrong[0]} an error above 0, not {self.margins[wrong[0]]:g}")


@dataclass(frozen=True)
class MaskOptions(CaseOptions):
    """The settings with which an audit reads masks.

    Attributes:
        labels: structure -> its values in the masks; None takes the values in the files.
        pred_labels: the same for the predictions; None if they have the values of the reference masks.
        model_labels: model -> the same for its predictions, for models whose values differ.
        annotated: the table's column of the structures that a reference mask shows (`data.annotations`); "" where all
            masks show all.
        orientation: of `data.readers.orientation.FLAGS`, for the predictions whose relation to the reference mask the
            headers leave open; if both headers state an orientation, the headers decide.
        images: folder of the radiographs to draw on, by case id or by the column `image`.
        label_error_checkpoint: the checkpoint whose predictions for `images` the reference masks are compared with, to
            find label errors (`radiographs.label_error_table`); `auto` is the shipped network, "" compares nothing.
        measurements: how to measure both masks of each knee; None measures nothing.
    """

    labels: Labels | None = None
    pred_labels: Labels | None = None
    annotated: str = ""
    model_labels: Mapping[str, Labels] = field(default_factory=dict)
    orientation: str = "none"
    images: str | Path | None = None
    label_error_checkpoint: str = ""
    measurements: MeasurementOptions | None = None

    def check(self) -> None:
        """Refuse options that have no meaning.

        Raises:
            InputError: the message names the option and its values.
        """
        super().check()
        if self.measurements is not None:
            self.measurements.check()
        if self.orientation not in orientation.FLAGS:
            raise InputError(
                f"--orientation {self.orientation!r}: give one of {', '.join(orientation.FLAGS)}"
            )


class Settings(NamedTuple):
    """The settings with which an audit computes the numbers.

    Attributes:
        min_group_patients: smaller groups are shown but not ranked.
        draws: bootstrap resamples, and permutations of the tests.
        seed: of the resamples and permutations.
        equivalence_margin: score -> margin, in the score's unit.
        command: the command line, for the page.
        endpoints: thresholds of failed segmentations and of other endpoints.
        folders: whose paths no output file holds, whatever characters their names have (`safe_text.strip_paths`).
        readers: score -> agreement of two readers, for the report; `equivalence_margin` has those that follow from it.
        primary: score and attributes of the primary family.
        intersections: whether to report by pairs of attributes.
        title: the heading of the page; "" for the default.
        author: who made the audit, for the page.
        inputs: file name -> SHA-256 of the tables that were read.
    """

    min_group_patients: int = 10
    draws: int = 10_000
    seed: int = 0
    equivalence_margin: Mapping[str, float] = {}
    command: str | None = None
    endpoints: EndpointSettings = EndpointSettings()
    folders: tuple[Path, ...] = ()
    readers: Mapping[str, ReaderAgreement] = {}
    primary: Primary = Primary()
    intersections: bool = True
    title: str = ""
    author: str = ""
    inputs: Mapping[str, str] = {}

    def with_folders(self, *paths: object) -> "Settings":
        """Return the settings with further folders, and files with their digests; other arguments are ignored."""
        folders = [workbook.split_sheet(Path(path))[0] for path in paths if isinstance(path, str | Path)]
        digests = {**self.inputs, **run_directory.file_digests(folders)}
        return self._replace(folders=(*self.folders, *folders), inputs=digests)

    def check(self, attributes: Sequence[str]) -> None:
        """Refuse settings out of range.

        Args:
            attributes: columns to report by.

        Raises:
            InputError: the message names the option and its range.
        """
        if self.min_group_patients < 1:
            raise InputError("min_group_patients counts patients: give 1 or more")
        bootstrap.check_draws(self.draws, "--draws")
        endpoints.check(self.endpoints, "--failure-dice", "--endpoint")
        family.resolve(self.primary, attributes)


def parse_pred_labels(
    words: Sequence[str],
) -> tuple[dict[str, tuple[int, ...]] | None, dict[str, dict[str, tuple[int, ...]]]]:
    """Parse the label map of all models, and those of single models, each after the model's name and a colon.

    `["femur=1", "tibia=2", "b:", "femur=10", "tibia=20"]`: model b has other values than the rest.

    Returns:
        The label map of the models that have none of their own, or None; and model -> label map.

    Raises:
        InputError: a word has another form, or a model occurs twice or has no label map.
    """
    lists: dict[str, list[str]] = {}
    shared: list[str] = []
    current = shared
    for word in words:
        if word.endswith(":") and "=" not in word:
            if word[:-1] in lists:
                raise InputError(
                    f"--pred-labels: the model {word[:-1]!r} occurs twice; give its label map once"
                )
            current = lists.setdefault(word[:-1], [])
        else:
            current.append(word)
    if empty := [model for model, own in lists.items() if not own]:
        raise InputError(f"--pred-labels {empty[0]}: no label map follows; write {empty[0]}: femur=1 tibia=2")
    return (
        label_map.parse(shared, "--pred-labels") if shared else None,
        {model: label_map.parse(own, "--pred-labels") for model, own in lists.items()},
    )


def parse_models(words: Sequence[str]) -> dict[str, Path]:
    """Return name -> folder of `NAME=DIR`, or of `DIR`, whose name is that of the model.

    Raises:
        InputError: a word has another form, or a name occurs twice.
    """
    models: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        path = Path(folder) if equals and not Path(word).is_dir() else Path(word)
        name = name if path != Path(word) else path.resolve().name
        if not name:
            raise InputError(f"--pred {word!r}: write NAME=DIR, or DIR")
        if name in models:
            raise InputError(
                f"--pred: two models have the name {name!r}; name them, as in a={models[name]} b={path}"
            )
        models[name] = path
    return models


def parse_endpoints(failure_dice: str, thresholds: Sequence[str] | None) -> EndpointSettings:
    """Return the settings of `--failure-dice` and `--endpoint`.

    Raises:
        InputError: the Dice is no number.
    """
    try:
        dice = cell_text.parse_number(failure_dice)
    except ValueError:
        raise InputError(
            f"--failure-dice {failure_dice!r}: give a Dice above 0 and below 1, such as 0.5"
        ) from None
    settings = EndpointSettings(dice)
    return settings if thresholds is None else settings._replace(thresholds=tuple(thresholds))


def parse_bins(words: Sequence[str]) -> dict[str, list[float]]:
    """Parse `["age=50,64"]` to attribute -> edges.

    Raises:
        InputError: a word has another form.
    """
    bins = {}
    for word in words:
        name, _, edges = word.partition("=")
        try:
            bins[name] = [cell_text.parse_number(edge) for edge in edges.split(",")]
        except ValueError:
            raise InputError(f"--bins {word!r}: write column=edges, such as age=50,64") from None
    return bins
