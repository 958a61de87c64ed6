import pytest

from kneefair_jax.errors import InputError
from kneefair_jax.report import page, pdf


@pytest.fixture
def browser(tmp_path, monkeypatch):
    """A browser that writes what it is told to print."""
    program = tmp_path / "bin" / "chromium"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do\n'
        'case "$word" in --print-to-pdf=*) out="${word#*=}";; file:*) in="${word#file://}";; esac\n'
        'done\ncat "$in" > "$out"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return program


def test_a_page_is_printed(tmp_path, browser):
    path = pdf.write(tmp_path / "summary.pdf", "<p>all groups</p>")
    assert path.read_text() == "<p>all groups</p>"


def test_a_browser_that_fails_leaves_no_file(tmp_path, browser):
    browser.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(InputError, match="--pdf.*index.html"):
        pdf.write(tmp_path / "summary.pdf", "<p>all groups</p>")
    assert not (tmp_path / "summary.pdf").exists()


def test_without_a_printer_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(pdf.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="--pdf.*install chromium.*weasyprint"):
        pdf.require_printer()


def test_the_summary_has_the_cards_alone(audited):
    html = page.summary_page(page.plain(audited))
    assert html.count('<article class="card') == 3 and "Gap 0.021, significant" in html
    assert "<svg" not in html and "<section" not in html
