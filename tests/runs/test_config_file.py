import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.runs import config_file
from kneefair_jax.runtime import run_directory
from kneefair_jax.training import config_checks

HEAD = "from ml_collections import ConfigDict\n\n\ndef get_config(text='a'):\n"


def test_a_config_is_loaded_with_its_argument(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(HEAD + "    return ConfigDict({'seed': text})\n")
    assert config_file.load(str(path)).seed == "a"
    assert config_file.load(f"{path}:b").seed == "b"


@pytest.mark.parametrize("name", config_file.names())
def test_every_shipped_config_is_valid_by_its_name_in_an_empty_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config_checks.validate_config(config_file.Parser().parse(name))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def get_config():\n    return (\n", 2),
        (HEAD + "    return {}['absent']\n", 5),
        ("\nimport a_module_that_is_missing\n", 2),
        (HEAD + "    return ConfigDict().absent\n", 5),
        (HEAD + "    return get_config()\n", 5),
        ("import sys\n\nsys.exit(0)\n", 3),
        ("def get_config():\n\traise TypeError('two\\nlines')\n", 2),
    ],
)
def test_an_error_names_the_file_and_the_line(tmp_path, text, line):
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        config_file.load(str(path))
    assert f"{path}, line {line}: " in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        "config.mitigation.objective = 'erm'",
        "config.mitigation.update({'objective': 'erm'})",
        "section = config.mitigation; section.objective = 'erm'",
    ],
)
def test_a_method_s_name_in_place_of_a_section_is_refused_with_the_new_field(tmp_path, line):
    path = tmp_path / "config.py"
    path.write_text(
        "from configs import default\n\n\ndef get_config():\n    config = default.get_config()\n"
        f"    {line}\n    return config\n"
    )
    with pytest.raises(
        InputError, match=r"line 6: .*mitigation\.objective is now mitigation\.objective\.name"
    ):
        config_file.load(str(path))


@pytest.mark.parametrize(
    "text",
    [
        "config = 3\n",
        "get_config = 3\n",
        "def get_config():\n    return 3\n",
        "\x00",
        "def get_config(): 1\n",
    ],
)
def test_what_is_no_config_is_refused(tmp_path, text):
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(InputError, match=r"config\.py"):
        config_file.load(str(path))
    with pytest.raises(InputError, match="absent"):
        config_file.load(str(tmp_path / "absent.py"))
    with pytest.raises(InputError, match="no file"):
        config_file.load(str(tmp_path))


def test_a_shipped_config_is_loaded_by_its_name_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_file.load("quickstart").train.steps == 400
    assert config_file.load("study:long").train.steps == 1500
    assert {"folder", "quickstart", "paper/oai"} <= set(config_file.names())
    assert "default" not in config_file.names()
    with pytest.raises(InputError, match="VARIANT='medium': give one of all, long, null, short"):
        config_file.load("study:medium")


def test_a_file_takes_precedence_over_a_shipped_name(tmp_path, monkeypatch):
    (tmp_path / "folder").write_text(HEAD + "    return ConfigDict({'seed': 7})\n")
    monkeypatch.chdir(tmp_path)
    assert config_file.load("folder").seed == 7


def test_a_near_name_is_suggested():
    with pytest.raises(InputError, match="'foldr' is no file.*'folder'"):
        config_file.load("foldr")


def test_the_config_of_a_run_is_that_of_its_file(tmp_path):
    config = config_file.load("quickstart")
    run_directory.open_run(tmp_path, config)
    assert config_file.load(str(tmp_path / "config.json")) == config
    with pytest.raises(InputError, match=r"config\.json"):
        config_file.load(str(tmp_path / "absent" / "config.json"))
