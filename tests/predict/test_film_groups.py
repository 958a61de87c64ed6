import numpy as np
import pytest
from PIL import Image

from kneefair_jax import predict
from kneefair_jax.data import readers
from kneefair_jax.errors import InputError
from kneefair_jax.predict import __main__ as cli
from kneefair_jax.predict import films
from tests.predict.networks import write

NAMES = ("sex=f,race=A", "sex=m,race=A")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case_id,sex\n1,f\n", "no column 'race'"),
        ("sex,race\nf,A\n", "no column 'case_id'"),
        ("case_id,sex,race\n1,f,A\n1,m,A\n", "row 3: .*1"),
        (
            "case_id,sex,race\n1,f,A\n2,f,B\n",
            "row 3: case '2' is of group 'sex=f,race=B', which has no network",
        ),
        ("case_id,sex,race\n1,,A\n", "row 2: case '1' is of group 'sex=,race=A'"),
    ],
)
def test_a_table_without_the_groups_is_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        films.groups_of_cases(tmp_path / "t.csv", NAMES)


def test_the_columns_are_named_by_the_groups(tmp_path):
    (tmp_path / "t.csv").write_text("race,age,case_id,sex\nA,61,x/1,m\nA,62,2,f\n")
    assert films.groups_of_cases(tmp_path / "t.csv", NAMES) == {"x/1": NAMES[1], "2": NAMES[0]}
    with pytest.raises(InputError, match="--metadata .*leave it out"):
        films.groups_of_cases(tmp_path / "t.csv", ())


def test_each_file_goes_to_the_network_of_its_group(tmp_path, capsys):
    """Five films of two groups, in one batch and in several; the sixth has no row."""
    for seed, group in enumerate(("sex=f", "sex=m")):
        write(tmp_path / f"nets/{seed}.safetensors", group=group, seed=seed)
    pictures = np.random.default_rng(1).integers(0, 256, (6, 24, 20), dtype=np.uint8)
    (tmp_path / "films/a").mkdir(parents=True)
    names = ["a/0", "1", "2", "3", "4", "5"]
    for name, picture in zip(names, pictures, strict=True):
        Image.fromarray(picture).save(tmp_path / f"films/{name}.png")
    rows = "".join(f"{i},{'fm'[i % 2]}\n" for i in range(5))
    (tmp_path / "t.csv").write_text("case_id,sex\n" + rows)
    one = [predict.load(tmp_path / f"nets/{seed}.safetensors") for seed in range(2)]
    for size in (2, 8):
        out = tmp_path / f"out{size}"
        argv = ["--checkpoint", tmp_path / "nets", "--images", tmp_path / "films", "--out", out]
        argv += ["--metadata", tmp_path / "t.csv", "--batch-size", size]
        assert cli.main([str(word) for word in argv]) == 1
        assert "5.png: --metadata has no case '5'" in capsys.readouterr().err
        for i, name in enumerate(names[:5]):
            expected = one[i % 2].segment([pictures[i][..., None]], ("sex=f", "sex=m")[i % 2])[0].mask
            other = one[1 - i % 2].segment([pictures[i][..., None]], ("sex=f", "sex=m")[1 - i % 2])[0].mask
            np.testing.assert_array_equal(readers.read_mask(out / f"masks/{name}.png"), expected)
            assert (expected != other).any()
