"""Write the page of measurements that are compared with readers' values, without reference masks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from kneefair_jax.report import page
from kneefair_jax.report.figures import measurement_figures
from kneefair_jax.report.text import formatting, measurements
from kneefair_jax.runtime import atomic

TITLE = "Knee measurements by patient group"


def write(directory: Path, report: Mapping[str, Any], measurement_rows: pd.DataFrame) -> Path:
    """Write `index.html` and `report.json`.

    Args:
        directory: where to write; created if absent.
        report: `cohort`, `run` and `measurements`, with plain or numpy numbers.
        measurement_rows: as for `measurement_figures.agreement`.

    Returns:
        The page's path.
    """
    report = page.plain(report)
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    atomic.write_text(directory / page.REPORT, text + "\n")
    return atomic.write_text(directory / page.PAGE, html(report, measurement_rows))


def html(report: Mapping[str, Any], measurement_rows: pd.DataFrame) -> str:
    """Return the page's HTML; `report` as for `write`, with plain numbers."""
    attributes, errors = report["cohort"]["attributes"], report["measurements"]["errors"]
    names = next(iter(errors.values()))["groups"] if errors else {}
    groups = [entry for entry in formatting.attribute_groups(names, attributes) if entry.key in attributes]
    figures = measurement_figures.agreement(measurement_rows, groups, errors)
    return page.template("measurements.html").render(
        report=report,
        attributes=attributes,
        title=report["run"].get("title", TITLE),
        figures={name: Markup(figure) for name, figure in figures.items()},
        contents=page.Contents([]),
        data_warnings=[],
        headline=measurements.headline(report),
        measurement_findings=measurements.sentences(report),
        **page.measurement_helpers(report),
    )
