from kneefair_jax import errors


def test_an_error_is_described_in_one_short_line():
    assert errors.describe(ValueError("first\nsecond")) == "first"
    assert errors.describe(OSError()) == "OSError"
    assert errors.describe(KeyError("")) == "''"
    assert len(errors.describe(ValueError("x" * 999))) == 200
