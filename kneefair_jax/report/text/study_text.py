"""A comparison of methods -> what its intervals, and how far its training went, allow to say, in words."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kneefair_jax.report.text.formatting import DASH, amount, group, listing, number

LEVEL = 0.05

# Where a statistic can be; Student's interval of few seeds may reach further.
LIMITS = {
    **dict.fromkeys(("mean", "worst", "es"), (0.0, 1.0)),
    **dict.fromkeys(("gap", "pair"), (-1.0, 1.0)),
    "ser": (1.0, math.inf),
    "hd95": (0.0, math.inf),
}
# Said of a method after the rest: what it is called, its digits and unit.
FURTHER = {"ser": ("SER", 3, ""), "es": ("ES-Dice", 3, ""), "hd95": ("HD95", 2, " mm")}
FEW_SEEDS = 3
STILL_RISING = 0.01  # of validation Dice, from the last evaluation but one to the last
LOW = 0.7  # of mean test Dice


def signed(value: float | None, digits: int = 3) -> str:
    """`+0.021`, `−0.004`; 0 has no sign."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def p_value(p: float | None) -> str:
    """`p = 0.041`, `p < 0.001`; an en dash where nothing was tested."""
    if p is None:
        return DASH
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def percent(value: float | None) -> str:
    """`73 %`; an en dash where there is no number."""
    return DASH if value is None else f"{number(100 * value, 0)} %"


def within(over: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An estimate whose intervals end where its statistic does."""
    low, high = LIMITS[key]
    cut = {
        kind: [min(max(end, low), high) for end in over[kind]]
        for kind in ("seeds", "patients")
        if over.get(kind)
    }
    return {**over, **cut}


def label(study: Mapping[str, Any], name: str) -> str:
    """A method's name for a reader."""
    return (study["methods"].get(name) or {}).get("label") or name


def unbroken(text: str) -> str:
    """No line ends inside `[0.012, 0.030]`, `p = 0.003` or `73 %`."""
    return re.sub(r"\[[^\]]*\]|p [=<] |\d %", lambda part: part[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def opening(study: Mapping[str, Any]) -> str:
    """What was compared on whom, how unequal the baseline is, what can be repaired and which methods did."""
    found = study["comparison"]
    compared = [name for name in found["methods"] if name not in (found["baseline"], found["oracle"])]
    base, baseline = found["methods"][found["baseline"]], label(study, found["baseline"])
    sentences = [
        f"{amount(len(compared), 'mitigation')} and the baseline, {baseline}, were trained with the same "
        f"{amount(found['seeds'], 'seed')} and tested on the same {amount(found['patients'], 'patient')}.",
        f"The baseline reaches a mean Dice of {number(base['mean']['value'])}{_both(base, 'mean')}.",
    ]
    if found["pair"] is None:
        sentences.append(
            "Fewer than two groups have the patients that ranking needs, so there is no gap to compare."
        )
        return " ".join(sentences)
    best, worst = pair(study)
    if two_groups(found):
        sentences.append(
            f"It segments {best} better than {worst} by {number(base['gap']['value'])}{_both(base, 'gap')}."
        )
    else:
        sentences.append(
            f"Its highest and lowest group mean, over seeds those of {best} and {worst}, differ by "
            f"{number(base['gap']['value'])}{_both(base, 'gap')}."
        )
    if not _told(base["gap"]["patients"]):
        sentences.append("These patients cannot tell that difference from none.")
    if found["repairable"]:
        sentences.append(_repairable(study, baseline))
    sentences += _verdicts(study, compared)
    if found.get("power"):
        sentences.append(power(found["power"], len(compared)))
    return " ".join(sentences)


def power(found: Mapping[str, Any], methods: int) -> str:
    """With which power the primary family finds a change of the gap, and whose numbers these are."""
    change = (
        f"as large as the whole repairable gap ({number(found['change'])})"
        if found["own_change"]
        else f"of {number(found['change'])}, which another study found"
    )
    return (
        f"A change of the difference {change}, with a standard deviation of {number(found['sd'])} over seeds"
        f"{'' if found['own_sd'] else ' as in another study'}, is detected"
        f"{f' in one of {methods} methods' if methods > 1 else ''} with a power of {percent(found['power'])}."
    )


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
        for group_name, of_group in (entry.get("fit") or {}).items():
            train, test = _mean(of_group["dice"]), method["groups"].get(group_name)
            rows.append(
                {
                    "method": name,
                    "group": group_name,
                    "train": train,
                    "test": test,
                    "cases": of_group["cases"],
                }
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


def _repairable(study: Mapping[str, Any], baseline: str) -> str:
    repairable = study["comparison"]["repairable"]
    oracle = label(study, study["comparison"]["oracle"])
    size, ends = number(repairable["value"]), _ends(repairable["seeds"], "seeds")
    if repairable["significant"]:
        text = f"The {oracle} shows that training can repair {size} of it{ends}; "
        text += "the rest was not repaired by equal representation at this budget"
        return text + _perhaps(repairable["patients"]) + "."
    if repairable["seeds"] is None:
        return f"By the {oracle}, {size} of it is repairable; one seed cannot tell that from none."
    text = f"There is nothing to repair that these seeds could tell from none: {baseline} minus {oracle} is"
    return f"{text} {size}{ends}."


def _verdicts(study: Mapping[str, Any], compared: Sequence[str]) -> list[str]:
    """Which methods changed the gap, which did not."""
    changes = {name: study["comparison"]["methods"][name]["change"]["gap"] for name in compared}
    if not changes:
        return []
    if all(change["p_holm"] is None for change in changes.values()):
        return ["One seed: no change is tested."]
    less = [label(study, n) for n, c in changes.items() if _tested(c) and c["value"] < 0]
    more = [label(study, n) for n, c in changes.items() if _tested(c) and c["value"] > 0]
    same = [label(study, n) for n, c in changes.items() if not _tested(c)]
    sentences = []
    if less:
        sentences.append(f"The difference falls with {listing(less)}.")
    if more:
        sentences.append(f"It grows with {listing(more)}.")
    if unsure := [
        label(study, n)
        for n, c in changes.items()
        if _tested(c) and c["patients"] and not _told(c["patients"])
    ]:
        sentences.append(f"With {listing(unsure)}, other patients may show none of it.")
    if same:
        seeds = amount(study["comparison"]["seeds"], "seed")
        who = (
            f"{listing(same)} {'shows' if len(same) == 1 else 'show'} no"
            if less or more
            else "No method shows a"
        )
        sentences.append(f"{who} change of the difference that {seeds} could tell from none.")
    return sentences


def sentence(study: Mapping[str, Any], name: str) -> str:
    """One sentence about one method: gap, worst group, overall mean, the share of the repairable gap, and the rest."""
    found = study["comparison"]
    method = found["methods"][name]
    parts = {"mean": "the overall mean"}
    if found["pair"] is not None:
        parts = {"gap": "the gap", "worst": "the worst group's mean"} | parts
    told = [key for key in parts if _tested(method["change"][key])]
    clauses = [
        _gap(study, method) if key == "gap" else _moved(method["change"][key], parts[key]) for key in told
    ]
    text = f"{label(study, name)}, over {amount(found['seeds'], 'seed')}, {listing(clauses or ['shows'])}"
    if rest := [f"{parts[key]} {_untold(method['change'][key])}" for key in parts if key not in told]:
        text += f"{', with' if told else ''} no change to tell from none in {listing(rest)}"
    closed = method["closed"]
    if closed and closed["value"] is not None:
        text += f"; it closes {_closed(closed)}"
        over = (method["change"]["gap"]["patients"], found["repairable"]["patients"])
        if any(ends and not _told(ends) for ends in over):
            text += "; other patients may show none"
    return f"{text}{_further(method['change'])}."


def _further(changes: Mapping[str, Any]) -> str:
    """What is told of SER, ES-Dice and HD95, and of which of them nothing is."""
    known = {key: changes[key] for key in FURTHER if changes[key]["value"] is not None}
    told = [_moved(change, *FURTHER[key]) for key, change in known.items() if _tested(change)]
    rest = [FURTHER[key][0] for key, change in known.items() if not _tested(change)]
    text = f"; it also {listing(told)}" if told else ""
    return text + (f"; no change to tell from none in {listing(rest)}" if rest else "")


def _gap(study: Mapping[str, Any], method: Mapping[str, Any]) -> str:
    """The change of a gap that the seeds tell from none."""
    found = study["comparison"]
    change, now = method["change"]["gap"], method["pair"]
    best, worst = pair(study)
    value, ends = change["value"], change["seeds"]
    if two_groups(found) and not _told(found["methods"][found["baseline"]]["gap"]["patients"]):
        # The baseline's own gap may be none: which way is "narrower" is then unknown.
        text = f"moves the difference {best} minus {worst} by {signed(value)} [{signed(ends[0])}, {signed(ends[1])}]"
    elif value < 0 and now["seeds"][1] < 0:
        text = f"moves the gap by {_size(change)} and turns it round: {worst} is ahead by {number(-now['value'])}"
    else:
        text = f"{'narrows' if value < 0 else 'widens'} the gap by {_size(change)}"
    return f"{text} ({p_value(change['p_holm'])}{_perhaps(change['patients'])})"


def _moved(change: Mapping[str, Any], what: str, digits: int = 3, unit: str = "") -> str:
    verb = "lifts" if change["value"] > 0 else "lowers"
    qualified = f"secondary, {p_value(change['p_holm'])}{_perhaps(change['patients'], digits)}"
    return f"{verb} {what} by {_size(change, digits)}{unit} ({qualified})"


def _perhaps(over: Sequence[float] | None, digits: int = 3) -> str:
    """What qualifies a claim about these patients, where their interval reaches 0."""
    if over is None or _told(over):
        return ""
    ends = f"{signed(over[0], digits)} to {signed(over[1], digits)}"
    return f"; over patients {ends}, so other patients may show none"


def _untold(change: Mapping[str, Any]) -> str:
    """No claim: the estimate and its interval speak."""
    if change["seeds"] is None:
        return f"({signed(change['value'])})"
    ends = f"[{signed(change['seeds'][0])}, {signed(change['seeds'][1])}]"
    return f"({signed(change['value'])} {ends}, {p_value(change['p_holm'])})"


def _closed(closed: Mapping[str, Any]) -> str:
    ends, half = closed["seeds"], closed["half"]
    text = percent(closed["value"])
    if ends:
        text += f" [{percent(ends[0])}, {percent(ends[1])}]"
    text += " of the repairable gap"
    if half["p_holm"] is not None and half["p_holm"] < LEVEL:
        return f"{text}, more than half ({p_value(half['p_holm'])})"
    if ends and ends[1] < 0.5:
        return f"{text}, less than half"
    return f"{text}; whether half, these seeds cannot tell"


def rules(study: Mapping[str, Any]) -> str:
    """Whether the rule that chooses a checkpoint changes which method has the smallest gap, by point estimates."""
    winners = {rule: smallest_gap(found) for rule, found in study["rules"].items()}
    named = {rule: winner for rule, winner in winners.items() if winner is not None}
    if not named:
        return ""
    if len(set(named.values())) == 1:
        winner = label(study, next(iter(named.values())))
        return f"By every rule {winner} has the smallest gap, by point estimates."
    each = [f"{label(study, winner)} by {rule.replace('_', ' ')}" for rule, winner in named.items()]
    return f"The rule changes which method has the smallest gap by point estimates: {listing(each)}."


def diverged(study: Mapping[str, Any]) -> list[str]:
    """A sentence for each method that is left out since a run of it diverged."""
    return [
        f"{label(study, name)} is left out, since {amount(len(directories), 'run')} diverged ({listing(directories)})."
        for name, directories in (study.get("diverged") or {}).items()
    ]


def smallest_gap(found: Mapping[str, Any]) -> str | None:
    """The method, the oracle aside, whose gap is nearest to 0."""
    gaps = {
        name: abs(method["gap"]["value"])
        for name, method in found["methods"].items()
        if name != found["oracle"] and method["gap"]["value"] is not None
    }
    return min(gaps, key=gaps.__getitem__) if gaps else None


def two_groups(found: Mapping[str, Any]) -> bool:
    """Whether a comparison's gap is the signed difference of its only two ranked groups."""
    return sum(group["ranked"] for group in found["groups"].values()) == 2


def pair(study: Mapping[str, Any]) -> tuple[str, str]:
    """The best and the worst group of the baseline, for a reader."""
    found, attributes = study["comparison"]["pair"], study["attribute"].split(",")
    return group(found["best"], attributes), group(found["worst"], attributes)


def _size(change: Mapping[str, Any], digits: int = 3) -> str:
    """The change without its sign, and its interval turned to match."""
    ends = change["seeds"]
    low, high = ends if change["value"] > 0 else (-ends[1], -ends[0])
    return f"{number(abs(change['value']), digits)} [{number(low, digits)}, {number(high, digits)}]"


def _tested(change: Mapping[str, Any]) -> bool:
    return change["p_holm"] is not None and change["p_holm"] < LEVEL


def _told(ends: Sequence[float] | None) -> bool:
    """Whether an interval leaves 0 out."""
    return ends is not None and (ends[0] > 0 or ends[1] < 0)


def _both(method: Mapping[str, Any], key: str) -> str:
    """The intervals of one statistic, each with what it is over."""
    over = within(method[key], key)
    found = [_ends(over[kind], kind) for kind in ("patients", "seeds") if over[kind]]
    return ",".join(found)


def _ends(ends: Sequence[float] | None, kind: str) -> str:
    return f" [{number(ends[0])}, {number(ends[1])}] over {kind}" if ends else ""


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else float(np.mean([value for value in values if value is not None]))
