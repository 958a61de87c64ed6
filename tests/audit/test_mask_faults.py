from kneefair_jax.audit import mask_faults
from kneefair_jax.audit.mask_faults import Fault, FaultyMask

FAULTS = [
    *(FaultyMask(f"c{i}", "reference", Fault(mask_faults.INTERPOLATED)) for i in range(7)),
    FaultyMask("{c}", "unet", Fault(mask_faults.BAND, "255")),
    FaultyMask("c3", "", Fault(mask_faults.SAME_PIXELS, "the same mask as c4")),
    FaultyMask("c5", "unet", Fault(mask_faults.HEADER, "the header states no unit")),
]


def test_the_table_has_a_row_per_fault():
    table = mask_faults.table(FAULTS)
    assert list(table.columns) == ["case_id", "mask", "fault", "detail"] and len(table) == 10
    assert table[["fault", "detail"]].to_numpy().tolist()[-4:] == [
        ["interpolated labels", ""],
        ["void band as background", "255"],
        ["identical mask", "the same mask as c4"],
        ["header", "the header states no unit"],
    ]
    assert mask_faults.table([]).empty


def test_a_note_for_each_kind_with_cases_and_remedy():
    interpolated, band, copies = mask_faults.notes(FAULTS, 24)
    assert "7 of 24 cases (c0, c1, c2, c3, c4, ...; all in mask_faults.csv)" in interpolated
    assert "nearest neighbor" in interpolated
    assert "ignore=255" in band and "{c}" in band and "unet" in band
    assert "(c3: the same mask as c4; all" in copies


def test_notes_count_cases_with_several_faults_once():
    copies = [
        FaultyMask(case, "reference", Fault(mask_faults.SAME_PIXELS, f"the same mask as {other}"))
        for case in ("c0", "c1", "c2")
        for other in ("c0", "c1", "c2")
        if case != other
    ]
    (note,) = mask_faults.notes(copies, 8)
    assert "in 3 of 8 cases" in note


def test_short_warnings_count_the_masks_and_name_the_first():
    references, by_model, single, _ = mask_faults.short_warnings(FAULTS)
    assert references.startswith("7 reference masks have interpolated") and references.count("c") < 12
    assert by_model.startswith("1 prediction by unet has") and "{c}" in by_model
    assert single.startswith("1 prediction is identical") and "c3" in single


def test_a_sentence_names_the_models_whose_gaps_a_few_masks_may_decide():
    turned = [FaultyMask(case, "b", Fault(mask_faults.ORIENTATION)) for case in ("c1", "c2")]
    rims = FaultyMask("c1", "a", Fault(mask_faults.INTERPOLATED))
    lines = mask_faults.short_warnings([rims, *turned])
    assert len(lines) == 3 and "gaps of b may" in lines[-1] and "mask_faults.csv" in lines[-1]
    assert len(mask_faults.short_warnings([rims])) == 1
    reference = FaultyMask("c3", "reference", Fault(mask_faults.OTHER_CASE))
    assert "gaps may" in mask_faults.short_warnings([*turned, reference])[-1]
