import pandas as pd
import pytest

from kneefair_jax.data import missing_words


def test_words_become_empty_cells_and_levels_stay():
    words = [
        "",
        "NA",
        "N/A",
        "#N/A",
        "<NA>",
        "NaN",
        "null",
        "Missing",
        "?",
        "Unknown",
        "-",
        "--",
        ".",
        "n.a.",
        "\uff0d",
    ]
    words += ["not available", "Not  Known", "NOT KNOWN", "\u2014", "\u200b", "#VALUE!"]
    levels = ["none", "None", "0", "f", "-1", "no", "known", "other", "Nancy", "x.y"]
    table = pd.DataFrame({"a": words + levels})
    assert missing_words.removed(table)["a"].tolist() == [""] * len(words) + levels


def test_a_note_counts_the_ambiguous_words_of_a_column():
    table = pd.DataFrame(
        {"a": ["?", "?", "Unknown", "NA", "f"], "b": ["none", "x", "", "NA", "x"], "c": list("vwxyz")}
    )
    first, second = missing_words.notes(table)
    assert "column a" in first and "3 cells" in first and "'?' (2)" in first and "'Unknown' (1)" in first
    assert "NA" not in first
    assert "column b" in second and "1 cell" in second and "'none'" in second and "level" in second
    assert missing_words.notes(table, frozenset({"a", "b"})) == []


@pytest.mark.parametrize("word", sorted(missing_words.CERTAIN | missing_words.AMBIGUOUS))
def test_every_word_of_the_lists_is_in_its_own_form(word):
    assert missing_words.word(word) == word
