import pytest

from kneefair_jax.data.draft.identity import Identifiers, pseudonyms


@pytest.fixture
def found():
    result = Identifiers()
    for name in ("Müller^Anneliese", "Li^Na", "Yamada^Tarou=山田^太郎", "O'Brien^Seán M"):
        result.add_name(name)
    result.add("7")
    result.add("AB-0042")
    result.add_date("19610307")
    return result


@pytest.mark.parametrize(
    "text",
    [
        *("mueller/a.dcm", "MULLER.png", "xMüllerx", "annelieseM", "li/a.png", "a_Na.png", "linali", "lina"),
        *("山田太郎", "Obrien", "o_brien", "sean", "series/7/a.png", "P7", "a_7.png", "ab0042", "AB 00 42"),
        *("1961-03-07", "07.03.1961", "7.3.1961", "03071961", "070361", "x19610307y", "610307"),
    ],
)
def test_identifiers_are_recognized_in_every_spelling(found, text):
    assert found.found_in(text)


@pytest.mark.parametrize(
    "text", ["", "film/knee_77.dcm", "ultimate.png", "m", "1961", "00420", "nail", "images"]
)
def test_short_identifiers_count_as_words_only(found, text):
    assert not found.found_in(text)


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("0000123456", "123456.dcm"),
        ("123456", "0000123456.dcm"),
        ("KLINIK-778899-X", "778899.dcm"),
        ("55667788^^^HOSP", "a/55667788.dcm"),
        ("KH-0042", "knee_42.png"),
        ("0042", "knee_42.png"),
        ("42", "knee_0042.png"),
        ("P0004711", "x_4711_left.png"),
    ],
)
def test_parts_of_identifiers_are_recognized_without_zeros(identifier, text):
    found = Identifiers()
    found.add(identifier)
    assert found.found_in(text) and not found.found_in("knee_left_77.dcm")


def test_texts_count_by_the_words_that_are_no_vocabulary():
    found = Identifiers()
    for text in ("Knee AP 2 views", "left", "XR knee: Brzezinski, MRN 0471177", "Li", "K-12-34-5"):
        found.add_text(text)
    for text in ("brzezinski.png", "471177.png", "Li/a.png", "k12345.png"):
        assert found.found_in(text), text
    for text in ("knee_ap_2.png", "left/k.png", "Carestream", "mrn_k.png"):
        assert not found.found_in(text), text


def test_short_numbers_count_in_names_and_not_in_measurements():
    found = Identifiers()
    found.add("25")
    assert found.found_in("25.png") and not found.found_in("25.5", shortest=4)


def test_pseudonyms_depend_on_the_key_alone():
    first = pseudonyms(["a", "b", "c"], b"1", Identifiers())
    assert first == pseudonyms(["c", "b", "a", "a"], b"1", Identifiers())
    assert len({*first.values(), *pseudonyms("abc", b"2", Identifiers()).values()}) == 6
    blocked = Identifiers()
    blocked.add(first["a"][2:7])
    second = pseudonyms(["a", "b", "c"], b"1", blocked)
    assert second["a"] != first["a"] and second["b"] == first["b"]


def test_many_identifiers_are_compared_in_little_time():
    found = Identifiers()
    for number in range(20_000):
        found.add(f"1.2.840.113619.2.{number:09d}")
    assert not any(found.found_in(f"study{number}/series/1.2.840.1136/im.dcm") for number in range(2_000))
    assert found.found_in("a/1.2.840.113619.2.000019999.dcm")
