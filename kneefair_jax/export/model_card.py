"""The model card of a run: Markdown with the front matter that model hubs read.

`kneefair export RUN` writes it beside the weights; a hub expects it as README.md, in Hugging Face's
format. All its content comes from the run directory; the card marks what is missing there as not recorded. It names
groups, never patients.

The card, its front matter included, and the description of the weights hide counts of patients below a minimum, and
the scores of so few patients (`suppression`). The sum over
splits, over the groups of an attribute, or over those of a pair of attributes would give a single hidden count by
subtraction, so each sum with one gets a second.

Reference: Mitchell et al. (2019), arXiv 1810.03993; Hundepool et al. (2012), Statistical Disclosure Control, chapter 4,
DOI 10.1002/9781118348239.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kneefair_jax import safe_text
from kneefair_jax.report.text import formatting

MIN_PATIENTS = 10  # if the report does not say
TEST, EXTERNAL, ALL = "test", "external", "all"
OVERALL = "all"  # the group of all patients
LIBRARY = "kneefair_jax"
_UNKNOWN = "not recorded"

type Cell = tuple[str, str]


class Suppression(NamedTuple):
    """The counts of patients that an export hides, by group and split.

    Attributes:
        minimum: the smallest count that is shown.
        small: cells below it, whose scores are hidden too.
        complementary: cells that would give a small one by subtraction.
    """

    minimum: int
    small: frozenset[Cell]
    complementary: frozenset[Cell]

    @property
    def hidden(self) -> frozenset[Cell]:
        """The cells whose count is not shown."""
        return self.small | self.complementary


def model_card_text(
    name: str,
    config: Mapping[str, Any],
    report: Mapping[str, Any],
    environment: Mapping[str, Any],
    *,
    parameters: int | None = None,
    license_id: str | None = None,
) -> str:
    """Return the card as Markdown.

    Args:
        name: of the weights.
        config: the run's `config.json`.
        report: its `report/report.json`.
        environment: its `environment.json`.
        parameters: the number of the network's parameters.
        license_id: of the weights, such as `apache-2.0`; None if it is not known.
    """
    hidden = suppression(report)
    front_matter = _front_matter(name, config, report, hidden, license_id)
    command = environment.get("command")
    hidden = _escaped(hidden)
    name, config, report, environment, license_id = (
        _markdown(value) for value in (name, config, report, environment, license_id)
    )
    structures = report["cohort"]["structures"]
    grid = " x ".join(str(side) for side in report["run"]["grid"])
    size = f" with {formatting.count(parameters)} parameters" if parameters else ""
    sections = [
        front_matter,
        f"# {name}\n\n"
        f"A network (`{config['model']['name']}`){size} that segments {formatting.listing(structures)} in radiographs, "
        f"at a working resolution of {grid} pixels. It was trained with {LIBRARY}.",
        _use(config, license_id),
        _training(config, report, hidden),
        "## Scores\n\n" + _scores(report, "Test cases of the run's cohort.", hidden, TEST),
        "### External cohort\n\n"
        + (
            _scores(
                report["external"], "Cases of an external cohort, used only for evaluation.", hidden, EXTERNAL
            )
            if "external" in report
            else "No external cohort was evaluated."
        ),
        "## Limits\n\n" + "\n".join(f"* {line}" for line in _limits(config, report)),
        _origin(report, environment, command),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(
    name: str,
    config: Mapping[str, Any],
    report: Mapping[str, Any],
    hidden: Suppression,
    license_id: str | None,
) -> str:
    """Return the YAML front matter, with scalars as JSON, which is a subset of YAML."""
    lines = ["---"]
    if license_id:
        lines.append(f"license: {json.dumps(license_id)}")
    lines += [f"library_name: {LIBRARY}", "pipeline_tag: image-segmentation", "tags:"]
    lines += [
        f"- {tag}" for tag in ("jax", "flax", "medical-imaging", "radiography", "segmentation", "fairness")
    ]
    # An external cohort is always a folder.
    cohorts = [(TEST, "test cases of its own cohort", _field(config, "data", "source"), report)]
    if "external" in report:
        cohorts.append((EXTERNAL, "external cohort", "folder", report["external"]))
    results = []
    for split, dataset, source, cohort in cohorts:
        if (OVERALL, split) in hidden.small:
            continue
        results += [
            "  - task:",
            "      type: image-segmentation",
            "    dataset:",
            f"      name: {json.dumps(dataset)}",
            f"      type: {json.dumps(source)}",
            "    metrics:",
        ]
        for structure, entry in _by_structure(cohort).items():
            if (mean := entry["overall"]["mean"]) is not None:
                title = json.dumps(f"Dice, {structure}", ensure_ascii=False)
                results += ["    - type: dice", f"      name: {title}", f"      value: {mean:.4f}"]
    if results:
        lines += ["model-index:", f"- name: {json.dumps(name)}", "  results:", *results]
    return "\n".join([*lines, "---"])


def _use(config: Mapping[str, Any], license_id: str | None) -> str:
    groups = (
        " Each group has a network of its own, so prediction needs the group of every image."
        if config.get("mitigation", {}).get("schedule", {}).get("name") == "group_specific"
        else ""
    )
    return (
        "## Intended use\n\n"
        "Research on segmentation and its fairness. The network is not a medical device: do not use it for diagnosis, "
        f"treatment or any decision about a patient.{groups} License of the weights: {license_id or _UNKNOWN}.\n\n"
        f"```\npython -m {LIBRARY}.predict --checkpoint WEIGHTS --images films --out segmented\n```"
    )


def _training(config: Mapping[str, Any], report: Mapping[str, Any], hidden: Suppression) -> str:
    source = _field(config, "data", "source")
    source_note = {
        "phantom": "Synthetic phantoms; no patient's radiograph was used in training.",
        "oai": "Radiographs of the Osteoarthritis Initiative; its terms of use apply.",
        "siddiqui": "Radiographs of the Osteoarthritis Initiative; its terms of use apply.",
    }.get(source, f"The origin of the radiographs is {_UNKNOWN} (source `{source}`).")
    phantoms = _field(config, "data", "phantom")
    if source == "phantom" and isinstance(phantoms, Mapping) and phantoms.get("online"):
        source_note += (
            " Every training case of this run was generated once, in its training step; the training patients below "
            "only determined the shares of the groups."
        )
    counts = report["cohort"].get("table")
    if not counts:
        return f"## Training cohort\n\n{source_note}\n\nPatients by group: {_UNKNOWN}."
    splits = list(dict.fromkeys(row["split"] for row in counts))
    by_group: dict[str, dict[str, int]] = {}
    for row in counts:
        by_group.setdefault(row["group"], {})[row["split"]] = row["patients"]
    rows = [
        [_group(group), *(_patients(patients.get(split, 0), hidden, group, split) for split in splits)]
        for group, patients in by_group.items()
    ]
    return f"## Training cohort\n\n{source_note}\n\nPatients:\n\n" + _table(["group", *splits], rows)


def _scores(cohort: Mapping[str, Any], caption: str, hidden: Suppression, split: str) -> str:
    dice = cohort["scores"]["dice"]
    structures = _by_structure(cohort)
    first = next(iter(structures.values()))
    rows = []
    for group in (OVERALL, *first["groups"]):
        entries = [
            structure["overall"] if group == OVERALL else structure["groups"][group]
            for structure in structures.values()
        ]
        patients = max(entry["patients"] or 0 for entry in entries)
        is_small = (group, split) in hidden.small
        cells = [
            "too few"
            if is_small
            else f"{formatting.number(entry['mean'])} {formatting.interval(entry['interval'])}"
            for entry in entries
        ]
        rows.append([_group(group), _patients(patients, hidden, group, split), *cells])
    text = f"{caption} Mean Dice over patients and its 95 % confidence interval.\n\n"
    text += _table(["group", "patients", *structures], rows)
    for attributes, summary in dice.get("summaries", {}).items():
        gap, ends = summary["gap"]["value"], formatting.interval(summary["gap"]["interval"])
        interval = "interval not computed" if ends == formatting.DASH else ends
        text += (
            f"\n\nGap by {attributes.replace(',', ' x ')}, macro Dice: {formatting.number(gap)} ({interval})."
        )
    return text


def _by_structure(cohort: Mapping[str, Any]) -> dict[str, Any]:
    """Return Dice by structure, in the order of the labels if it is known; JSON sorts by name."""
    structures = cohort["scores"]["dice"]["structures"]
    order = cohort.get("structures") or cohort.get("cohort", {}).get("structures") or list(structures)
    return {name: structures[name] for name in order}


def _limits(config: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    attributes = report["cohort"].get("attributes")
    if _field(config, "data", "source") == "phantom":
        yield (
            "The network was trained on phantoms. Groups of phantoms are only names; their scores say nothing about "
            "groups of people."
        )
    if attributes:
        yield f"Groups other than by {formatting.listing(attributes)} were not evaluated."
    else:
        yield "Performance was not evaluated by group."
    if "external" not in report:
        yield "The network was tested only on cases of its own cohort."
    cohorts = {"Scores": report["run"], "Scores of the external cohort": report.get("external")}
    for subject, cohort in cohorts.items():
        if cohort and cohort.get("resolution", "working") == "working":
            yield f"{subject} are at the working resolution, not at the native resolution of the radiographs."
    for structure, cases in (report["run"].get("absent") or {}).items():
        yield f"{structure} is absent from both masks of {cases} test cases, which have no score for it."


def _origin(report: Mapping[str, Any], environment: Mapping[str, Any], command: str | None) -> str:
    seconds = report["run"].get("times", {}).get("train_seconds")
    versions = environment.get("versions") or {}
    facts = {
        "command": f"`{_code(command)}`" if command else _UNKNOWN,
        "commit": environment.get("commit") or _UNKNOWN,
        "step": formatting.step(report["run"]["step"]),
        "training time": f"{seconds / 60:.0f} min" if seconds else _UNKNOWN,
        "device": environment.get("device") or _UNKNOWN,
        "versions": ", ".join(f"{key} {value}" for key, value in versions.items()) or _UNKNOWN,
    }
    return "## Provenance\n\n" + "\n".join(f"* {key}: {value}" for key, value in facts.items())


def _patients(count: int, hidden: Suppression, group: str, split: str) -> str:
    """Hide a small number of patients, which could identify them, and a number that would give it by subtraction."""
    if (group, split) in hidden.complementary:
        return "withheld"
    is_small = (group, split) in hidden.small or 0 < count < hidden.minimum
    return f"fewer than {hidden.minimum}" if is_small else formatting.count(count)


def _escaped(hidden: Suppression) -> Suppression:
    """Escape the names of groups, as in the escaped report."""
    small, complementary = (
        frozenset((_markdown(group), split) for group, split in cells)
        for cells in (hidden.small, hidden.complementary)
    )
    return Suppression(hidden.minimum, small, complementary)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _markdown(value: Any) -> Any:
    """Escape the texts and keys of a JSON value, so that Markdown shows no HTML, links, images or cells."""
    if isinstance(value, Mapping):
        return {_markdown(key): _markdown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_markdown(item) for item in value]
    if not isinstance(value, str):
        return value
    line = " ".join(safe_text.printable(value).split())
    return re.sub(r"([\\`*|\[\]])", r"\\\1", html.escape(line, quote=False))


def _code(text: str) -> str:
    """Return text for a code span, in which a backtick would end the span."""
    return " ".join(safe_text.printable(text).split()).replace("`", "'")


def _group(name: str) -> str:
    return name.replace(",", ", ")


def _field(config: Mapping[str, Any], section: str, key: str) -> Any:
    return config.get(section, {}).get(key, _UNKNOWN)


def suppression(report: Mapping[str, Any]) -> Suppression:
    """Return the hidden counts of a run's report, of its external cohort too.

    Args:
        report: `report.json` of a run. Without groups nothing is hidden.
    """
    minimum = report["cohort"].get("min_group_patients", MIN_PATIENTS)
    cells: dict[Cell, int] = {
        (row["group"], row["split"]): row["patients"] for row in report["cohort"].get("table") or ()
    }
    for split, cohort in ((TEST, report), (EXTERNAL, report.get("external"))):
        for structure in cohort["scores"]["dice"]["structures"].values() if cohort else ():
            for group, entry in {OVERALL: structure["overall"], **structure["groups"]}.items():
                scored = entry["patients"] or 0
                cells[group, split] = min(
                    filter(None, (scored, cells.get((group, split), scored))), default=0
                )
    return suppress(cells, minimum)


def suppress(cells: Mapping[Cell, int], minimum: int) -> Suppression:
    """Hide counts below the minimum, and the smallest other count of each sum that has a single hidden one.

    Example: of train 22, validation 7 and test 15 with their sum, validation is small and test complementary.

    Args:
        cells: (group, split) -> patients; groups are named as in `groups`. Zeros are shown.
        minimum: the smallest count that is shown.
    """
    counts = {cell: count for cell, count in cells.items() if count}
    small = frozenset(cell for cell, count in counts.items() if count < minimum)
    hidden = set(small)
    sums = _sums(counts)
    is_done = False
    while not is_done:
        is_done = True
        for terms in sums:
            concealed = [cell for cell in terms if cell in hidden]
            visible = [cell for cell in terms if cell not in hidden]
            total = sum(counts[cell] for cell in concealed)
            if visible and concealed and (len(concealed) == 1 or total < minimum):
                hidden.add(min(visible, key=lambda cell: (counts[cell], cell)))
                is_done = False
    return Suppression(minimum, small, frozenset(hidden - small))


def _sums(counts: Mapping[Cell, int]) -> list[list[Cell]]:
    """Return the cells of each sum that a reader knows: a total, if it is a cell, and its terms."""
    sums: dict[tuple[str, ...], list[Cell]] = {}
    for group, split in counts:
        if split != EXTERNAL:
            sums.setdefault(("splits", group), []).append((group, split))
        levels = re.split(r",(?=[^,=]+=)", group)
        attributes = ",".join(level.partition("=")[0] for level in levels)
        sums.setdefault(("groups", attributes, split), []).append((group, split))
        for level in levels if len(levels) > 1 else ():
            total = [(level, split)] if (level, split) in counts else []
            sums.setdefault(("levels", attributes, level, split), total).append((group, split))
    return [terms for key, terms in sums.items() if key[0] != "splits" or (key[1], ALL) in terms]
