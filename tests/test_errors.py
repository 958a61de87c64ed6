from kneefair_jax import errors


def test_what_a_library_says_is_one_short_line():
    assert errors.told(ValueError("first\nsecond")) == "first"
    assert errors.told(OSError()) == "OSError"
    assert errors.told(KeyError("")) == "''"
    assert len(errors.told(ValueError("x" * 999))) == 200
