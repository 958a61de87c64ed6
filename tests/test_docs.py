"""The documentation's code runs, its commands name options that exist, and its links lead somewhere."""

import importlib.util
import re
from pathlib import Path

import ml_collections
import pytest

from configs import default
from kneefair_jax.cli import main
from kneefair_jax.mitigation import registry
from kneefair_jax.report import schema
from kneefair_jax.training import config_fields
from tests import documents

DOCS = documents.ROOT / "docs"


def generated_pages():
    spec = importlib.util.spec_from_file_location("generated_pages", DOCS / "generated_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def name(page):
    return str(page.relative_to(documents.ROOT))


def python_pages(slow):
    """Return the pages with executed blocks of Python, slow or fast, as parameters."""
    for page in documents.PAGES:
        executed = [block for block in documents.blocks(page, "python") if block.is_executed]
        if executed and slow == any(block.is_slow for block in executed):
            yield pytest.param(page, id=name(page), marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("page", [*python_pages(slow=False), *python_pages(slow=True)])
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "OBJECTIVES", registry.OBJECTIVES.copy())  # a page registers another one
    namespace = {}
    for block in documents.blocks(page, "python"):
        if block.is_executed:
            exec(compile(block.text, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", documents.PAGES, ids=name)
def test_every_block_names_its_language(page):
    assert not documents.blocks(page, ""), "name the language of the block: python, sh or text"


@pytest.mark.parametrize("page", [*documents.PAGES, documents.ROOT / "CONTRIBUTING.md"], ids=name)
def test_links_and_paths_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#:]+?)(?:#[\w-]+)?\)", text):
        # The generated pages exist on the site only, so a link to one would be dead in a clone.
        assert (page.parent / link).exists(), link
    folders = "configs|benchmarks|recipes|examples|tests|kneefair_jax"
    for path in set(re.findall(rf"\b(?:{folders})/[\w/-]+\.\w+", page.read_text())):
        assert (documents.ROOT / path).exists(), path


def test_the_page_of_fields_has_every_field_of_the_default_config():
    page = generated_pages().config_page()
    parts = [default.get_config(), default.study("", {})]
    sources = [default.folder(), default.external(), default.oai(), default.siddiqui(), default.phantom()]
    leaves = {
        *fields(parts[0]),
        *fields(parts[1], "study."),
        *(leaf for source in sources for leaf in fields(source, "data.")),
    }
    # data.bins and data.quality are described as a whole.
    assert not {
        leaf for leaf in leaves if not {f"`{leaf}`", f"`{leaf.rpartition('.')[0]}`"} & set(page.split())
    }


def fields(config, prefix=""):
    """Yield the dotted names of a config's fields."""
    for key, value in config.items():
        if isinstance(value, ml_collections.ConfigDict) and len(value):
            yield from fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def test_the_page_of_keys_has_every_key_of_the_schema():
    page = generated_pages().report_page()
    for kind, definition in schema.json_schema()["$defs"].items():
        assert f"### {kind}\n" in page
        assert all(f"`{key}`" in page for key in definition["properties"])
    assert "`worst_group`" in page and "`p_adjusted`" in page


def test_the_page_of_packages_has_every_module():
    page = generated_pages().packages_page()
    package = documents.ROOT / "kneefair_jax"
    assert all(f"`{path.stem}`" in page for path in package.rglob("*.py") if path.stem != "__init__")


def test_every_page_is_in_the_navigation():
    navigation = (documents.ROOT / "mkdocs.yml").read_text()
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | set(generated_pages().PAGES)
    assert pages == set(re.findall(r": (\S+\.md)$", navigation, re.MULTILINE))


@pytest.mark.parametrize("page", documents.PAGES, ids=name)
def test_named_config_fields_exist(page):
    text = re.sub(r"```python\n.*?```", "", page.read_text(), flags=re.DOTALL)
    sections = "|".join(config_fields.CONFIG.fields)
    names = re.findall(r"\bconfig\.([a-z_]+(?:\.[a-z_]+)*)", text)
    names += re.findall(rf"`((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)[`=]", text)
    fields = {field for field in names if not field.endswith((".json", ".md"))} - {"json", "md"}
    assert not {field for field in fields if config_fields.schema_of(field) is None}


def test_every_command_has_a_row():
    rows = (DOCS / "reference" / "commands.md").read_text()
    assert not {task for task in main.SUMMARIES if f"| `kneefair {task}" not in rows}


def test_config_flags_of_commands_exist():
    for page in documents.PAGES:
        for command in documents.commands(page):
            config = re.search(r"--config=([\w/]+)(?::(\w+))?", command)
            if not config:
                continue
            path = documents.ROOT / "configs" / f"{config[1]}.py"
            assert path.exists(), command
            keys = set(re.findall(r"--config\.([\w.]+)", command))
            assert not {key for key in keys if not has_field(path, config[2], key)}, command


def has_field(path: Path, argument: str | None, key: str) -> bool:
    module = importlib.import_module(
        f"configs.{'.'.join(path.relative_to(path.parents[1] / 'configs').parts)[:-3]}"
    )
    value = module.get_config(argument) if argument else module.get_config()
    for part in key.split("."):
        if part not in value:
            return False
        value = value[part]
    return True
