import pytest

from kneefair_jax import errors


def test_an_unknown_name_is_refused_with_the_known_ones():
    assert errors.lookup({"b": 1, "a": 2}, "a", "config.loss") == 2
    with pytest.raises(errors.InputError, match="^config.loss='c': give one of a, b$"):
        errors.lookup({"b": 1, "a": 2}, "c", "config.loss")


def test_an_error_is_described_in_one_short_line():
    assert errors.describe(ValueError("first\nsecond")) == "first"
    assert errors.describe(OSError()) == "OSError"
    assert errors.describe(KeyError("")) == "''"
    assert len(errors.describe(ValueError("x" * 999))) == 200
