"""How far the training of a study went -> what a reader has to be warned of, and which regime it is."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kneefair_jax.report.study_wording import label, pair
from kneefair_jax.report.wording import listing, number

FEW_SEEDS = 3
STILL_RISING = 0.01  # of validation Dice, from the last evaluation but one to the last
LOW = 0.7  # of mean test Dice


def warnings(study: Mapping[str, Any]) -> list[str]:
    """Why what the page says may not hold for well trained models; none where nothing is known against it."""
    found, training = study["comparison"], study.get("training") or {}
    texts = []
    if found["seeds"] == 1:
        texts.append("There is one seed: nothing has an interval over seeds, and no change is tested.")
    elif found["seeds"] < FEW_SEEDS:
        texts.append(
            f"There are {found['seeds']} seeds, fewer than {FEW_SEEDS}: intervals over them are so wide that hardly "
            "anything can be told from none."
        )
    rising = [
        label(study, name)
        for name, entry in training.items()
        if entry["rise"] is not None and np.mean(entry["rise"]) > STILL_RISING
    ]
    if rising:
        texts.append(
            f"The validation Dice of {listing(rising)} still rose by more than {STILL_RISING} from the last evaluation "
            "but one to the last (mean over seeds): longer training may change what is found here."
        )
    means = {name: method["mean"]["value"] for name, method in found["methods"].items()}
    if low := [label(study, name) for name, mean in means.items() if mean is not None and mean < LOW]:
        texts.append(
            f"The mean test Dice of {listing(low)} is below {LOW}: hardly trained, or a task that this network cannot "
            "do; either way, nothing here speaks for models that are good."
        )
    return texts


def fit(study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a method and group: mean Dice on training and on test patients over seeds; none where no run knows it."""
    rows = []
    for name, method in study["comparison"]["methods"].items():
        entry = (study.get("training") or {}).get(name) or {}
        for group, of_group in (entry.get("fit") or {}).items():
            train, test = _mean(of_group["dice"]), method["groups"].get(group)
            rows.append(
                {"method": name, "group": group, "train": train, "test": test, "cases": of_group["cases"]}
            )
    return rows


def regime(study: Mapping[str, Any]) -> str:
    """Whether the baseline's gap is there on the patients that it was trained on; "" where that is not known."""
    found = study["comparison"]
    train = {row["group"]: row["train"] for row in fit(study) if row["method"] == found["baseline"]}
    if not found["pair"]:
        return ""
    high, low = (train.get(found["pair"][side]) for side in ("best", "worst"))
    if high is None or low is None:
        return ""
    there, here = high - low, found["methods"][found["baseline"]]["pair"]["value"]
    worst, baseline = pair(study)[1], label(study, found["baseline"])
    text = (
        f"On patients that it was trained on, {baseline}'s gap is {number(there)}, on test patients {number(here)} "
        "(means over seeds)."
    )
    if here <= 0:
        return text
    if there >= here / 2:
        return (
            f"{text} At least half of it is there before any new patient is seen: this is the short-budget regime, in "
            f"which {worst} is not fitted yet, or is harder to segment however long one trains."
        )
    return (
        f"{text} Less than half of it is there on patients that were seen: this is the long-budget regime, in which "
        f"the training cases are fitted and {worst} lacks patients; to balance repeats those there are."
    )


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean([value for value in values if value is not None]))
