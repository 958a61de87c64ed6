"""Reports match their JSON Schema, by a small validator of the keywords that the schema uses."""

import json

import pandas as pd
import pytest

from kneefair_jax import audit
from kneefair_jax.report import build, page, schema
from tests.report import failed_cohort

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_type(value, name):
    if name in ("integer", "number"):
        numbers = int if name == "integer" else int | float
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def errors(value, rule, definitions, path="report"):
    """Yield the paths at which a value does not match a rule."""
    if "$ref" in rule:
        rule = definitions[rule["$ref"].removeprefix("#/$defs/")]
    if "anyOf" in rule and all(list(errors(value, one, definitions, path)) for one in rule["anyOf"]):
        yield f"{path}: no alternative matches"
    if "const" in rule and value != rule["const"]:
        yield f"{path}: not {rule['const']}"
    names = rule.get("type", [])
    if names and not any(is_type(value, name) for name in ([names] if isinstance(names, str) else names)):
        yield f"{path}: not {names}"
    elif isinstance(value, list):
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            yield f"{path}: {len(value)} items"
        for i, item in enumerate(value):
            yield from errors(item, rule.get("items", {}), definitions, f"{path}[{i}]")
    elif isinstance(value, dict):
        properties, additional = rule.get("properties", {}), rule.get("additionalProperties", {})
        yield from (f"{path}: no {key}" for key in rule.get("required", []) if key not in value)
        for key, item in value.items():
            if key in properties or additional is not False:
                yield from errors(item, properties.get(key, additional or {}), definitions, f"{path}.{key}")
            else:
                yield f"{path}: unknown {key}"


def validate(report):
    document = schema.json_schema()
    return list(errors(report, {"$ref": document["$ref"]}, document["$defs"]))


@pytest.fixture(scope="module")
def report():
    table = failed_cohort.cases(8)
    cohort = table.drop_duplicates("case_id").reset_index(drop=True)
    return build.build_report(
        table,
        cohort[["case_id", "patient_id", *failed_cohort.ATTRIBUTES]],
        build.Analysis(
            failed_cohort.STRUCTURES,
            list(failed_cohort.ATTRIBUTES),
            draws=99,
            equivalence_margin={"dice": 0.05},
        ),
        notes=["a note"],
        run={"config": None},
    )


def test_a_report_matches_the_schema_that_is_written_beside_it(report, tmp_path):
    page.write(tmp_path, report, failed_cohort.cases(8), [], [])
    saved = json.loads((tmp_path / page.REPORT).read_text())
    document = json.loads((tmp_path / page.SCHEMA).read_text())
    assert document == schema.json_schema()
    assert list(errors(saved, {"$ref": document["$ref"]}, document["$defs"])) == []


def test_an_audit_matches_the_schema():
    table = failed_cohort.cases(3).drop(columns=["model", "split"])
    models = pd.concat([table.assign(model="a"), table.assign(model="b", dice=table["dice"] * 0.99)])
    reports = audit.table(models, ["sex", "race"], settings=audit.Settings(draws=99)).reports
    assert len(reports) == 2
    for report in reports.values():
        assert validate(page.plain(report)) == []


def test_a_wrong_type_a_missing_and_an_unknown_key_do_not_match(report):
    plain = page.plain(report)
    assert validate(plain | {"schema": 1}) and validate(plain | {"extra": 1})
    assert validate({key: value for key, value in plain.items() if key != "rates"})
    plain["scores"]["dice"]["overall"]["mean"] = "0.9"
    assert validate(plain) == ["report.scores.dice.overall.mean: no alternative matches"]


def test_every_object_of_the_schema_has_a_description():
    assert all(definition["description"] for definition in schema.json_schema()["$defs"].values())
