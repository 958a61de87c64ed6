"""Write the last lines of an audit on the terminal: warnings, and the findings of all models."""

from collections.abc import Mapping

from kneefair_jax.report.schema import Report
from kneefair_jax.report.text import cards, models, summary
from kneefair_jax.report.text.formatting import margin_value


def lines(reports: Mapping[str, Report]) -> list[str]:
    """Return the warnings on the data, the headline of several models, and the verdicts on each attribute.

    Args:
        reports: model -> its report.
    """
    first = next(iter(reports.values()))
    return [
        *(f"warning: {text}" for text in summary.data_warnings(first)),
        *models.headline(first),
        *filter(None, [models.significant_gaps(first)]),
        *(
            f"{f'{model}, ' if len(reports) > 1 else ''}{text}"
            for model, report in reports.items()
            for text in _verdicts(report)
        ),
    ]


def _verdicts(report: Report) -> list[str]:
    """Return `sex: Gap 0.038, significant; equivalence within ±0.020 is not shown`, a line for each attribute."""
    texts = []
    for verdict in summary.verdicts(report):
        text = f"{verdict.groups.title}: {cards.headline(verdict)}"
        if verdict.equivalence not in (None, "equivalent"):
            margin = f"±{margin_value(verdict.summary['equivalence']['delta'])}"
            is_small = verdict.equivalence == "small"
            text += (
                f"; within the margin of {margin}"
                if is_small
                else f"; equivalence within {margin} is not shown"
            )
        texts.append(text)
    return texts
