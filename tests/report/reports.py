"""Parts of small reports: groups too small to rank, a missing level, nulls as a run has them."""

from dataclasses import asdict

from kneefair_jax.fairness.results import AttributeSummary

STRUCTURES = ("femur", "tibia", "patella")
MEANS = {
    "sex=female": 0.9312,
    "sex=male": 0.9457,
    "age=<=50": 0.9501,
    "age=>=51": 0.9283,
    "age=missing": 0.9111,
    "sex=female,age=<=50": 0.9422,
    "sex=female,age=>=51": 0.9218,
    "sex=male,age=<=50": 0.9533,
    "sex=male,age=missing": None,
}
SMALL = {"age=missing", "sex=male,age=missing"}


def part(shift: float) -> dict:
    entries = {
        name: {
            "mean": None if mean is None else mean - shift,
            "interval": None if name in SMALL else [mean - shift - 0.01, mean - shift + 0.01],
            "patients": 4 if name in SMALL else 31,
            "cases": 8 if name in SMALL else 62,
            "ranked": name not in SMALL,
            "unranked": "not a group: unknown" if name in SMALL else None,
        }
        for name, mean in MEANS.items()
    }
    summary = {
        "worst": {"value": 0.07 + shift, "interval": None, "group": "sex=female"},
        "gap": {"value": 0.0146, "interval": [0.002, 0.027]},
        "sd": {"value": 0.00725, "interval": None},
        "ser": {"value": float("nan"), "interval": None},
        "es": {"value": 0.925, "interval": [0.91, 0.94]},
    }
    age = {
        "worst": {"value": 0.0717, "interval": None, "group": "age=>=51"},
        "gap": {"value": 0.0218, "interval": [0.0, 0.044]},
        **{key: {"value": None, "interval": None} for key in ("sd", "ser", "es")},
    }
    nothing = asdict(AttributeSummary())
    summary, age = nested(nothing, summary), nested(nothing, age)
    return {
        "overall": {
            "mean": 0.9376 - shift,
            "interval": [0.931 - shift, 0.944 - shift],
            "patients": 66,
            "cases": 1132,
        },
        "groups": entries,
        "summaries": {"sex": summary, "age": age, "sex,age": nothing},
    }


def nested(whole: dict, part: dict) -> dict:
    """`whole`, with the entries of `part`, also within entries."""
    return whole | {
        key: nested(whole[key], value)
        if isinstance(value, dict) and isinstance(whole.get(key), dict)
        else value
        for key, value in part.items()
    }


def rate(count: int, n: int) -> dict:
    share, ends = (count / n, [0.0, 0.1]) if n else (None, None)
    return {"estimate": share, "interval": ends, "n": n, "p": None, "p_adjusted": None, "method": "exact"}


def without_failures(scores: dict, attributes: list[str]) -> dict:
    """`rates`, `primary` and the other entries of a report in which no segmentation failed."""
    groups = {
        name: {
            "count": 0,
            "rate": rate(0, entry["patients"]),
            "ranked": entry["ranked"],
            "unranked": entry["unranked"],
        }
        for name, entry in scores["dice"]["groups"].items()
    }
    overall = rate(0, scores["dice"]["overall"]["patients"])
    failure = {
        "score": "dice",
        "threshold": 0.5,
        "adverse": True,
        "reason": None,
        "count": 0,
        "overall": overall,
        "groups": groups,
        "comparisons": {name: {"test": None, "pairs": [], "unranked": {}} for name in attributes},
        "structures": {
            name: {"overall": overall, "groups": groups, "tests": {}} for name in scores["dice"]["structures"]
        },
    }
    return {
        "rates": {
            "failure_dice": 0.5,
            "endpoints": {"failure": failure},
            "small_groups": {name: {} for name in scores},
        },
        "primary": {
            "score": "dice",
            "attributes": attributes,
            "failure_dice": 0.5,
            "level": 0.05,
            "correction": "Holm",
            "hypotheses": [],
            "sha256": "0" * 64,
        },
        **{key: {} for key in ("interactions", "pooled", "power", "model")},
    }


FLOW = {
    "listed": 66,
    "excluded": [],
    "cohort": {"cases": 1132, "patients": 66},
    "splits": {},
    "tested": {"cases": 1132, "patients": 66},
    "not_scored": {"cases": 0, "patients": 0},
    "failed": 0,
    "without_failure": 66,
    "groups": {},
}


def score(shift: float) -> dict:
    return part(shift) | {
        "structures": {name: part(shift + 0.02 * i) for i, name in enumerate(STRUCTURES)},
    }


def external(report: dict, **changes) -> dict:
    """An external cohort with the numbers of a report."""
    scored = {"scores": report["scores"], "rates": report["rates"], "structures": list(STRUCTURES)}
    return {**scored, "resolution": "working", "pooled": {}, "fingerprint": "8a2b"} | changes


LEVELS = {
    "sex": ("female", "male"),
    "race": ("Black", "White"),
    "age": ("<=50", "51-60", "61-70", ">=71", "missing"),
}
AUDITED = ("dice", "iou", "hd95_mm", "nsd")


def beyond_size(observed: float, expected: float, best: str, worst: str) -> dict:
    """The comparison of a ratio of errors with the one that follows from size, as `reference_ser` gives it."""
    ratio = observed / expected
    return {
        "value": ratio,
        "interval": [0.9 * ratio, 1.1 * ratio],
        "observed": observed,
        "expected": expected,
        "best": best,
        "worst": worst,
        "patients": {best: 30, worst: 20},
    }


def verdict(pairs: list[list[str]], gap: float, *, p: float, ser: float, size: float | None = None) -> dict:
    """One attribute's summary, with all that the audit adds."""
    low = gap - 0.01
    return {
        "worst": {"value": 0.07, "interval": [0.06, 0.08], "group": pairs[0][1]},
        "gap": {"value": gap, "interval": [max(low, 0.0), gap + 0.01]},
        "gap_without_failures": {
            "value": gap,
            "interval": [max(low, 0.0), gap + 0.01],
            "interval_adjusted": [max(low - 0.002, 0.0), gap + 0.012],
            "patients": {},
        },
        "sd": {"value": gap / 2, "interval": [0.001, 0.01]},
        "es": {"value": 0.925, "interval": [0.91, 0.94]},
        "ser": {
            "value": ser,
            "interval": [ser - 0.06, ser + 0.07],
            "size": size,
            "beyond_size": size and beyond_size(ser, size, *pairs[0]),
        },
        "test": {"name": "permuted Welch t", "statistic": 2.31, "p": p / 2, "p_holm": p, "p_bh": None},
        "rank": {"name": "Brunner-Munzel", "p": p / 3},
        "pairs": [
            {
                "first": first,
                "second": second,
                "difference": (gap - 0.003 * i) * (-1) ** i,
                "interval": sorted([(gap - 0.003 * i + e) * (-1) ** i for e in (-0.01, 0.01)]),
                "interval_adjusted": sorted([(gap - 0.003 * i + e) * (-1) ** i for e in (-0.012, 0.012)]),
                "all_patients": {"difference": gap, "interval": [low - 0.05, gap + 0.05]},
                "welch": [low, gap + 0.011],
                "p": p / 2,
                "p_holm": p,
                "p_brunner_munzel": p / 3,
                "p_mann_whitney": p / 4,
                "cliffs_delta": 0.31,
            }
            for i, (first, second) in enumerate(pairs)
        ],
        "detectable": 0.0211,
        "equivalence": None,
        "warnings": [],
    }


def audited_part(shift: float) -> dict:
    attributes = list(LEVELS)
    names = [f"{a}={level}" for a in attributes for level in LEVELS[a]] + [
        f"{a}={x},{b}={y}"
        for a, b in (("sex", "race"), ("sex", "age"), ("race", "age"))
        for x in LEVELS[a]
        for y in LEVELS[b]
    ]
    entries = {}
    for i, name in enumerate(names):
        small = ">=71" in name or "missing" in name
        mean = 0.946 - shift - 0.02 * ("female" in name) - 0.006 * ("Black" in name) - 0.001 * (i % 3)
        entries[name] = {
            "mean": mean,
            "interval": None if "missing" in name else [mean - 0.012, mean + 0.01],
            "patients": 6 if small else 40,
            "cases": 12 if small else 80,
            "ranked": not small,
            "unranked": "too few to rank (n < 10)" if small else None,
        }
    ages = [f"age={level}" for level in LEVELS["age"][:3]]
    summaries = {
        "sex": verdict([["sex=male", "sex=female"]], 0.021, p=0.0004, ser=1.38, size=1.4),
        "race": verdict([["race=White", "race=Black"]], 0.006, p=0.41, ser=1.09, size=1.01),
        "age": verdict([[ages[0], ages[1]], [ages[0], ages[2]], [ages[1], ages[2]]], 0.004, p=0.83, ser=1.05),
        "sex,race": verdict(
            [["sex=male,race=White", "sex=female,race=Black"]], 0.027, p=0.002, ser=1.6, size=1.3
        ),
    }
    summaries["age"]["equivalence"] = {
        "delta": 0.02,
        "confidence": 1 - 0.1 / 3,
        "equivalent": True,
        "reason": None,
        "intervals": [[-0.01, 0.012]] * 3,
        "failure_intervals": [[-0.015, 0.015]] * 3,
    }
    summaries |= {key: asdict(AttributeSummary()) for key in ("sex,age", "race,age")}
    summaries["race"]["warnings"] = ["a group has 15 patients, skewed scores: intervals cover about 90 %."]
    overall = {
        "mean": 0.938 - shift,
        "interval": [0.931 - shift, 0.944 - shift],
        "patients": 80,
        "cases": 160,
    }
    return {"overall": overall, "groups": entries, "summaries": summaries}
