import hashlib
import re

from kneefair_jax.runtime import provenance


def test_the_date_is_that_of_the_source_where_it_is_set(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert provenance.today() == "1970-01-02"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", provenance.today())


def test_digests_of_files_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("a\n")
    digest = hashlib.sha256(b"a\n").hexdigest()
    assert provenance.file_digests([tmp_path / "a.csv", tmp_path, None, {"c1": 1}]) == {"a.csv": digest}
