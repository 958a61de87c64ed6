"""A run's folder -> its model card: Markdown with the front matter that model hubs read.

`python -m kneefair_jax.export RUN` writes it beside the weights; a hub (Hugging Face's format, Mitchell et al. 2019's
idea, arXiv 1810.03993) wants it as README.md. Everything in it stands in the run's folder; what does not is said to be
unknown. It names groups, never patients, and no count of patients below the report's least number to rank.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kneefair_jax import safe_text
from kneefair_jax.report.text import formatting

LIBRARY = "kneefair_jax"
_UNKNOWN = "not recorded"
_FEW = 10


def card(
    name: str,
    config: Mapping[str, Any],
    report: Mapping[str, Any],
    environment: Mapping[str, Any],
    *,
    parameters: int | None = None,
    license_id: str | None = None,
) -> str:
    """The card as Markdown.

    Args:
        name: of the weights.
        config: the run's `config.json`.
        report: its `report/report.json`.
        environment: its `environment.json`.
        parameters: how many numbers the network has.
        license_id: of the weights, such as `apache-2.0`; None leaves it open.
    """
    front_matter = _front_matter(name, config, report, license_id)
    command = environment.get("command")
    name, config, report, environment, license_id = (
        _markdown(value) for value in (name, config, report, environment, license_id)
    )
    structures = report["cohort"]["structures"]
    least = report["cohort"].get("min_group_patients", _FEW)
    grid = " x ".join(str(side) for side in report["run"]["grid"])
    numbers = f" of {formatting.count(parameters)} parameters" if parameters else ""
    parts = [
        front_matter,
        f"# {name}\n\n"
        f"A network (`{config['model']['name']}`){numbers} that segments {_listed(structures)} in radiographs, "
        f"on a grid of {grid} pixels. Made with {LIBRARY}.",
        _use(config, license_id),
        _training(config, report),
        "## Scores\n\n" + _scores(report, "Test cases of the run's own cohort.", least),
        "### Another cohort\n\n"
        + (
            _scores(report["external"], "Cases of an external cohort, for evaluation alone.", least)
            if "external" in report
            else "None was scored."
        ),
        _limits(config, report),
        _origin(report, environment, command),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(
    name: str, config: Mapping[str, Any], report: Mapping[str, Any], license_id: str | None
) -> str:
    """YAML, whose scalars are written as JSON, which is YAML too."""
    lines = ["---"]
    if license_id:
        lines.append(f"license: {json.dumps(license_id)}")
    lines += [f"library_name: {LIBRARY}", "pipeline_tag: image-segmentation", "tags:"]
    lines += [
        f"- {tag}" for tag in ("jax", "flax", "medical-imaging", "radiography", "segmentation", "fairness")
    ]
    lines += ["model-index:", f"- name: {json.dumps(name)}", "  results:"]
    # An external cohort is always a folder.
    results = [("test cases of its own cohort", _of(config, "data", "source"), _by_structure(report))]
    if "external" in report:
        results.append(("another cohort", "folder", _by_structure(report["external"])))
    for dataset, source, values in results:
        lines += [
            "  - task:",
            "      type: image-segmentation",
            "    dataset:",
            f"      name: {json.dumps(dataset)}",
            f"      type: {json.dumps(source)}",
            "    metrics:",
        ]
        for structure, entry in values.items():
            if (mean := entry["overall"]["mean"]) is not None:
                title = json.dumps(f"Dice, {structure}", ensure_ascii=False)
                lines += ["    - type: dice", f"      name: {title}", f"      value: {mean:.4f}"]
    return "\n".join([*lines, "---"])


def _use(config: Mapping[str, Any], license_id: str | None) -> str:
    groups = (
        " Each group has a network of its own, so the group of every image has to be given."
        if config.get("mitigation", {}).get("schedule", {}).get("name") == "group_specific"
        else ""
    )
    return (
        "## Intended use\n\n"
        "Research on segmentation, and on how equally it serves people. It is no medical device: not for diagnosis, "
        f"treatment or any decision about a patient.{groups} Licence of the weights: {license_id or _UNKNOWN}.\n\n"
        f"```\npython -m {LIBRARY}.predict --checkpoint WEIGHTS --images films --out segmented\n```"
    )


def _training(config: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    source = _of(config, "data", "source")
    what = {
        "phantom": "Phantoms, drawn by a program; no patient's film was used in training.",
        "oai": "Films of the Osteoarthritis Initiative; its terms of use apply.",
        "siddiqui": "Films of the Osteoarthritis Initiative; its terms of use apply.",
    }.get(source, f"Where the films come from is {_UNKNOWN} (source `{source}`).")
    phantoms = _of(config, "data", "phantom")
    if source == "phantom" and isinstance(phantoms, Mapping) and phantoms.get("online"):
        what += (
            " Every training case of this run was drawn once, in its training step; the training patients below only "
            "fixed the shares of the groups."
        )
    counts = report["cohort"].get("table")
    least = report["cohort"].get("min_group_patients", _FEW)
    if not counts:
        return f"## Training cohort\n\n{what}\n\nPatients by group: {_UNKNOWN}."
    splits = list(dict.fromkeys(row["split"] for row in counts))
    by_group: dict[str, dict[str, int]] = {}
    for row in counts:
        by_group.setdefault(row["group"], {})[row["split"]] = row["patients"]
    rows = [
        [_group(group), *(_patients(patients.get(split, 0), least) for split in splits)]
        for group, patients in by_group.items()
    ]
    return f"## Training cohort\n\n{what}\n\nPatients:\n\n" + _table(["group", *splits], rows)


def _scores(scored: Mapping[str, Any], caption: str, least: int) -> str:
    dice = scored["scores"]["dice"]
    structures = _by_structure(scored)
    first = next(iter(structures.values()))
    rows = []
    for group in ("all", *first["groups"]):
        entries = [one["overall"] if group == "all" else one["groups"][group] for one in structures.values()]
        patients = max(entry["patients"] or 0 for entry in entries)
        few = patients < least and group != "all"
        cells = [
            "too few"
            if few
            else f"{formatting.number(entry['mean'])} {formatting.interval(entry['interval'])}"
            for entry in entries
        ]
        rows.append([_group(group), _patients(patients, least), *cells])
    text = f"{caption} Mean Dice over patients, and its 95 % interval.\n\n"
    text += _table(["group", "patients", *structures], rows)
    for attributes, summary in dice.get("summaries", {}).items():
        gap, ends = summary["gap"]["value"], formatting.interval(summary["gap"]["interval"])
        interval = "interval not computed" if ends == formatting.DASH else ends
        text += (
            f"\n\nGap by {attributes.replace(',', ' x ')}, macro Dice: {formatting.number(gap)} ({interval})."
        )
    return text


def _by_structure(scored: Mapping[str, Any]) -> dict[str, Any]:
    """Dice by structure, in the order of the labels where that is known; JSON's is the alphabet's."""
    found = scored["scores"]["dice"]["structures"]
    order = scored.get("structures") or scored.get("cohort", {}).get("structures") or list(found)
    return {name: found[name] for name in order}


def _limits(config: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    return "## Limits\n\n" + "\n".join(f"* {line}" for line in _limit_lines(config, report))


def _limit_lines(config: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    attributes = report["cohort"].get("attributes")
    if _of(config, "data", "source") == "phantom":
        yield "Trained on phantoms. Groups of phantoms are names; their scores say nothing about groups of people."
    if attributes:
        yield f"Groups other than by {_listed(attributes)} were not looked at."
    else:
        yield "How it does for groups of patients was not looked at."
    if "external" not in report:
        yield "It was tested on the kind of films it was trained on and on no other."
    cohorts = {"Scores": report["run"], "Scores of the other cohort": report.get("external")}
    for which, scored in cohorts.items():
        if scored and scored.get("resolution", "grid") == "grid":
            yield f"{which} are of masks on the working grid, not at a film's own size."
    for structure, cases in (report["run"].get("absent") or {}).items():
        yield f"{structure} is in neither mask of {cases} test cases, which have no score for it."


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
    return "## How it was made\n\n" + "\n".join(f"* {key}: {value}" for key, value in facts.items())


def _patients(count: int, least: int) -> str:
    """Of a handful of patients the very number may tell who they are."""
    return f"fewer than {least}" if 0 < count < least else formatting.count(count)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _markdown(value: Any) -> Any:
    """A JSON value whose texts, keys among them, are shown by Markdown as they are: no HTML, links, images or cells."""
    if isinstance(value, Mapping):
        return {_markdown(key): _markdown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_markdown(item) for item in value]
    if not isinstance(value, str):
        return value
    line = " ".join(safe_text.printable(value).split())
    return re.sub(r"([\\`*|\[\]])", r"\\\1", html.escape(line, quote=False))


def _code(text: str) -> str:
    """Text for a code span, which a backtick would end."""
    return " ".join(safe_text.printable(text).split()).replace("`", "'")


def _group(name: str) -> str:
    return name.replace(",", ", ")


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _of(config: Mapping[str, Any], section: str, key: str) -> Any:
    return config.get(section, {}).get(key, _UNKNOWN)
