import numpy as np
import pytest

from kneefair_jax.evaluation import predictions

MAPS = np.random.default_rng(0).integers(0, 5, (3, 4, 6), np.uint8)


def test_the_file_has_an_array_for_each_case(tmp_path):
    with predictions.writer(tmp_path) as write:
        write(["a", "b"], MAPS[:2])
        write(["c"], MAPS[2:])
    with np.load(tmp_path / predictions.FILE) as file:
        assert list(file) == ["a", "b", "c"]
        np.testing.assert_array_equal([file[name] for name in file], MAPS)
    some = predictions.read(tmp_path, {"c", "a"})
    assert some.keys() == {"a", "c"} and some["c"].dtype == np.uint8
    np.testing.assert_array_equal([some["a"], some["c"]], MAPS[::2])


def test_an_interrupted_evaluation_keeps_the_earlier_file(tmp_path):
    with predictions.writer(tmp_path) as write:
        write(["a"], MAPS[:1])
    with pytest.raises(KeyboardInterrupt), predictions.writer(tmp_path) as write:
        write(["b"], MAPS[1:2])
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [predictions.FILE]
    assert predictions.read(tmp_path, ["a"])["a"].tolist() == MAPS[0].tolist()
