"""Types of `report.json`, schema 2, and their JSON Schema.

Each class is a JSON object with its keys; `json_schema` is written beside a report as `report.schema.json`. Entries
that `fairness` computes are aliases of its dataclasses, whose fields are their keys. Keys that only some reports have
are `NotRequired`. Undefined numbers are null.
"""

import dataclasses
import types
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeAliasType,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from kneefair_jax.fairness import (
    adjusted_model,
    attribute_power,
    contour_bands,
    endpoints,
    equivalence,
    group_calibration,
    interactions,
    measurement_errors,
    predicted_scores,
    rates,
    results,
    small_groups,
)

# The JSON object of a dataclass: `dataclasses.asdict` of it.
type Mean = Annotated[dict[str, Any], results.Mean]
type Summary = Annotated[dict[str, Any], results.AttributeSummary]
type StructureScores = Annotated[dict[str, Any], results.StructureScores]
type Scores = Annotated[dict[str, Any], results.ScoreResult]
type Estimate = Annotated[dict[str, Any], results.Estimate]
type GroupRate = Annotated[dict[str, Any], rates.GroupRate]
type Endpoint = Annotated[dict[str, Any], rates.EndpointRates]
type Rates = Annotated[dict[str, Any], endpoints.Rates]
type Interaction = Annotated[dict[str, Any], interactions.Interaction]
type PooledMean = Annotated[dict[str, Any], small_groups.PooledMean]
type AttributePower = Annotated[dict[str, Any], attribute_power.AttributePower]
type AdjustedModel = Annotated[dict[str, Any], adjusted_model.AdjustedModel]
type GroupCalibration = Annotated[dict[str, Any], group_calibration.GroupCalibration]
type ReaderAgreement = Annotated[dict[str, Any], equivalence.ReaderAgreement]
type PredictedScores = Annotated[dict[str, Any], predicted_scores.PredictedScores]
type ContourBands = Annotated[dict[str, Any], contour_bands.ContourBands]
type MeasurementErrors = Annotated[dict[str, Any], measurement_errors.MeasurementErrors]
type ModelPair = Annotated[dict[str, Any], results.ModelPair]

SCHEMA: Literal[2] = 2

_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", types.NoneType: "null"}


class Counts(TypedDict):
    """Cases and patients."""

    cases: int
    patients: int


class CohortRow(Counts):
    """Cases and patients of a group in a split."""

    group: str
    split: str


class Exclusion(TypedDict):
    """Records that are excluded for one reason."""

    reason: str
    records: int


class NotTested(TypedDict):
    """The listed cases of a group, and those of them that are excluded or have no Dice of any structure."""

    cases: int
    not_tested: int


class GroupCounts(TypedDict):
    """The groups of an attribute, and how many are ranked."""

    groups: int
    ranked: int


class PatientFlow(TypedDict):
    """Counts from the list of cases to the ranked groups, as `build.patient_flow`.

    `failed` and `without_failure` count patients, and add up to those `tested`; `not_scored` are without a Dice.
    `not_tested`, by group, is present where an audit excludes cases, or cases have no Dice.
    """

    listed: int
    excluded: list[Exclusion]
    cohort: Counts
    splits: dict[str, Counts]
    tested: Counts
    not_scored: Counts
    failed: int
    without_failure: int
    groups: dict[str, GroupCounts]
    not_tested: NotRequired[dict[str, NotTested]]


class Cohort(TypedDict):
    """The cohort and its groups; `unmatched` counts files that belong to no case of an audit."""

    structures: list[str]
    attributes: list[str]
    min_group_patients: int
    table: list[CohortRow]
    notes: list[str]
    warnings: NotRequired[list[str]]
    unmatched: NotRequired[list[Exclusion]]
    flow: PatientFlow


class Hypothesis(TypedDict):
    """A hypothesis of the primary family."""

    kind: str
    attribute: str
    group: str
    p: float
    p_adjusted: float


class Primary(TypedDict):
    """The primary family, with the digest of its statement."""

    score: str
    attributes: list[str]
    failure_dice: float
    level: float
    correction: str
    hypotheses: list[Hypothesis]
    sha256: str


class Ignored(TypedDict):
    """The pixels that the label `ignore` excludes, as `audit.scoring.IgnoredPixels`."""

    pixels: int
    cases: int
    largest_share: float | None
    structure: str | None
    case_id: str | None


class Run(TypedDict, total=False):
    """The origin of the numbers: config, model, data and software; `inputs` is file name -> SHA-256."""

    config: Required[dict[str, Any] | None]
    absent: dict[str, int]
    author: str
    bootstrap_draws: int
    classes: list[str]
    command: str | None
    commit: str | None
    date: str
    delta: dict[str, float] | None
    device: str | None
    endpoints: list[str]
    failure_dice: float
    fingerprint: str
    folds: int
    grid: list[int]
    ignored: Ignored
    inputs: dict[str, str]
    intersections: bool
    labels: str | dict[str, Any]
    model: str | None
    nsd_tolerance_mm: float
    resolution: str
    seed: int
    spacing: list[float] | None
    spacing_kinds: dict[str, int]
    step: int | dict[str, int] | list[Any]
    steps_in_all: int
    times: dict[str, float]
    title: str
    versions: dict[str, str]


class CalibrationCurve(TypedDict):
    """Confidence and accuracy by bin; null in empty bins."""

    confidence: list[float | None]
    accuracy: list[float | None]
    pixels: list[int]


class Calibration(TypedDict):
    """The calibration of all patients and of each group."""

    curves: dict[str, CalibrationCurve]
    groups: dict[str, GroupCalibration]


class AttributeAuc(TypedDict):
    """The area under the ROC curve with which an attribute is predicted from one input."""

    auc: float | None
    interval: results.Interval | None
    patients: int
    levels: list[str]
    reason: NotRequired[str]


class ValidationScores(TypedDict):
    """The validation scores that selection rules compare."""

    dice: float | None
    worst: float | None


class Selection(ValidationScores):
    """The checkpoint of a selection rule, and its validation scores."""

    step: int | dict[str, int]


class TrainScores(Counts):
    """The mean Dice of training cases of a group."""

    dice: float | None


class ModelGapPair(TypedDict):
    """Two groups whose means differ significantly, as in `pairs` of the summaries."""

    first: str
    second: str
    difference: float


class ModelAttribute(TypedDict):
    """The gaps of a model, its verdict, and its worst ranked group.

    `gap` is over all patients, as are the changes between models; `gap_without_failures` is the tested one, with its
    corrected p, whether it is `significant`, and the `pairs` that differ. `result` is the verdict without the gap.
    """

    gap: float | None
    gap_without_failures: float | None
    p_holm: float | None
    significant: bool
    pairs: list[ModelGapPair]
    failures_differ: bool
    verdict: str
    result: str
    worst: str | None
    worst_mean: float | None


class ModelSummary(TypedDict):
    """The results of one model in the primary score; `failed` of `scored` patients have a failed segmentation."""

    overall: Mean
    failed: int
    scored: int
    attributes: dict[str, ModelAttribute]


class ModelComparison(TypedDict):
    """The comparison of all models on the same patients."""

    score: str
    order: list[str]
    pairs: list[ModelPair]
    summaries: dict[str, ModelSummary]


class External(TypedDict):
    """The scores of the external cohort."""

    fingerprint: str
    structures: list[str]
    resolution: str
    scores: dict[str, Scores]
    rates: Rates
    pooled: dict[str, PooledMean]


class MeasurementDefinition(TypedDict):
    """What is measured, and what others have reported of its error."""

    unit: str
    text: str
    known_error: str


class Measurements(TypedDict):
    """Errors of measurements by group, against reference masks or readers."""

    against: Literal["masks"] | Literal["readers"]
    errors: dict[str, MeasurementErrors]
    definitions: dict[str, MeasurementDefinition]
    spacing_kinds: dict[str, dict[str, int]]
    reasons: dict[str, dict[str, int]]
    predicted_reasons: dict[str, dict[str, int]]
    contours: dict[str, ContourBands]


class Report(TypedDict):
    """`report.json` of a run or of an audit."""

    schema: Literal[2]
    scores: dict[str, Scores]
    rates: Rates
    interactions: dict[str, dict[str, Interaction]]
    pooled: dict[str, PooledMean]
    power: dict[str, AttributePower]
    model: dict[str, AdjustedModel]
    cohort: Cohort
    run: Run
    primary: Primary
    calibration: NotRequired[Calibration]
    external: NotRequired[External]
    train_scores: NotRequired[dict[str, TrainScores] | None]
    models: NotRequired[ModelComparison]
    readers: NotRequired[dict[str, ReaderAgreement]]
    predicted_dice: NotRequired[PredictedScores]
    measurements: NotRequired[Measurements]
    attribute_leakage: NotRequired[dict[str, dict[str, AttributeAuc]]]
    selection: NotRequired[dict[str, Selection]]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of `report.json`."""
    definitions: dict[str, Any] = {}
    reference = _schema(Report, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **reference, "$defs": definitions}


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one type, and add the objects that it contains to `definitions`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is results.Interval:
        return _schema(tuple[float, float], definitions)
    if isinstance(kind, TypeAliasType):
        return _schema(kind.__value__, definitions)
    if origin is Annotated:
        return _schema(arguments[1], definitions)
    if kind is Any:
        return {}
    if is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return _reference(kind, definitions)
    if hasattr(kind, "_fields"):  # a NamedTuple
        origin, arguments = tuple, tuple(get_type_hints(kind).values())
    if origin in (Required, NotRequired):
        return _schema(arguments[0], definitions)
    if origin is Literal:
        return {"const": arguments[0]}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(argument, definitions) for argument in arguments]}
    if origin is tuple and Ellipsis not in arguments:
        # An end of an interval is null where it is infinite.
        items = {"type": ["number", "null"]} if arguments[0] is float else _schema(arguments[0], definitions)
        return {"type": "array", "items": items, "minItems": len(arguments), "maxItems": len(arguments)}
    if origin in (list, tuple):
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    return {"type": _JSON_TYPES[kind]}


def _reference(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    if kind.__name__ not in definitions:
        definitions[kind.__name__] = {}  # a placeholder, in case the type contains itself
        hints = get_type_hints(kind, include_extras=True)
        definitions[kind.__name__] = {
            "type": "object",
            "description": (kind.__doc__ or "").partition("\n")[0],
            "properties": {key: _schema(hint, definitions) for key, hint in hints.items()},
            "required": sorted(kind.__required_keys__ if is_typeddict(kind) else hints),
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{kind.__name__}"}
