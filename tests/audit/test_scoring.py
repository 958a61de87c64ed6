"""One pass over the cases: how often files are decoded, and what is kept of them."""

from collections import Counter

import numpy as np
import pytest

from kneefair_jax import audit
from kneefair_jax.audit import cases as cases_of
from kneefair_jax.audit import mask_pair, scoring
from kneefair_jax.audit.options import CaseOptions
from kneefair_jax.data import label_map, readers
from kneefair_jax.metrics import boundary_errors, mask_scores
from tests.audit import folder

LABELS = {"femur": 1, "tibia": 2}
READING = mask_pair.Reading(label_map.check(LABELS), label_map.check(LABELS))


@pytest.fixture
def decoded(monkeypatch):
    """Counts how often each mask file is decoded."""
    counts = Counter()
    read = readers.read_label_file

    def counted(path):
        counts[f"{path.parent.name}/{path.stem}"] += 1
        return read(path)

    monkeypatch.setattr(readers, "read_label_file", counted)
    return counts


def test_masks_are_decoded_once_and_references_a_second_time_for_sizes(tmp_path, decoded):
    """Of two models; those that a page shows are decoded once more for each page."""
    root = folder.write(tmp_path)
    for i in range(folder.CASES):
        folder.save(folder.truth_of(i), root / "best" / f"c{i}.png")
    result = audit.masks(
        root / "truth",
        {"a": root / "pred", "b": root / "best"},
        root / "metadata.csv",
        ["sex"],
        audit.MaskOptions(labels=LABELS),
        audit.Settings(draws=40, min_group_patients=2),
    )
    shown = {model: {view.case_id for view in views} for model, views in result.examples.items()}
    assert len(shown["a"] | shown["b"]) < folder.CASES
    for i in range(folder.CASES):
        case = f"c{i}"
        in_a, in_b = (case in shown[model] for model in "ab")
        assert decoded[f"truth/{case}"] == 2 + in_a + in_b
        assert (decoded[f"pred/{case}"], decoded[f"best/{case}"]) == (1 + in_a, 1 + in_b)


def test_what_is_kept_of_a_case_does_not_grow_with_its_masks(tmp_path):
    def kept(one):
        if isinstance(one, np.ndarray):
            return one.nbytes
        if isinstance(one, dict):
            return sum(map(kept, one.values()))
        return sum(map(kept, one)) if isinstance(one, tuple | list) else 0

    sizes = []
    for scale in (2, 8):
        mask = np.kron(folder.truth_of(0), np.ones((scale, scale), np.uint8))
        paths = []
        for name in ("truth", "pred"):
            paths.append(tmp_path / f"{name}{scale}.png")
            folder.save(mask, paths[-1])
        true = mask_pair.reference(paths[0], READING)
        sizes.append(kept(scoring._score(true, paths[1], np.ones(2), READING, None, in_first=True)))
    assert sizes[0] == sizes[1] < 10_000


def test_results_are_those_of_the_metrics(tmp_path):
    root = folder.write(tmp_path)
    cohort = cases_of.read(root / "metadata.csv", ["sex"], CaseOptions())
    paths = {
        name: {f"c{i}": root / name / f"c{i}.png" for i in range(folder.CASES)} for name in ("truth", "pred")
    }
    del paths["pred"]["c3"]
    cases = scoring.score_cases(cohort, paths["truth"], {"": paths["pred"]}, READING)
    sizes = scoring.size_errors(paths["truth"], cases, READING, {"": 0.7})[""]
    for i, case in enumerate(cases.values()):
        true = folder.truth_of(i)
        predicted = folder.prediction_of(i) if i != 3 else np.zeros_like(true)
        expected = mask_scores(predicted, true, 2, (0.5, 0.5))
        for name, values in case.by_model[""].scores.items():
            np.testing.assert_array_equal(values, expected[name])
        np.testing.assert_array_equal(sizes["dice"][i], boundary_errors(true, 2, (0.5, 0.5), 0.7)["dice"])
        assert case.truth.pixels == np.count_nonzero(true)
    assert cases["c3"].by_model[""].mask is None and cases["c3"].by_model[""].fit is None
