"""Print a page to PDF by headless Chromium, or by WeasyPrint where no Chromium is installed."""

import importlib
import importlib.util
import shutil
import subprocess
import tempfile
from pathlib import Path

from kneefair_jax.errors import InputError
from kneefair_jax.runtime import atomic

FILE = "summary.pdf"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_TIMEOUT_S = 120


def require_printer(option: str = "--pdf") -> None:
    """Refuse to print where neither Chromium nor WeasyPrint is installed.

    Raises:
        InputError: the message names the option and the remedy.
    """
    if _browser() is None and importlib.util.find_spec("weasyprint") is None:
        raise InputError(
            f"{option}: needs Chromium or WeasyPrint; install chromium, or pip install weasyprint, or print index.html "
            "from a browser"
        )


def write(path: Path, html: str, option: str = "--pdf") -> Path:
    """Print a self-contained page to a PDF file.

    Args:
        path: the file.
        html: the page.
        option: that asked for the file, for messages.

    Raises:
        InputError: nothing that can print is installed, or printing failed.
    """
    require_printer(option)
    browser = _browser()
    with atomic.replacement(path) as temporary:
        if browser is None:
            importlib.import_module("weasyprint").HTML(string=html).write_pdf(temporary)
        else:
            _print_by_browser(browser, html, temporary, option)
    return path


def _browser() -> str | None:
    """Return the path of the first installed browser."""
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


def _print_by_browser(browser: str, html: str, path: Path, option: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "page.html"), Path(folder, FILE)
        source.write_text(html, encoding="utf-8")
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            # The page has neither scripts nor links to load, and containers lack the sandbox of the browser.
            "--no-sandbox",
            f"--user-data-dir={folder}/profile",
            "--no-pdf-header-footer",
            f"--print-to-pdf={target}",
            source.as_uri(),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
            path.write_bytes(target.read_bytes())
        except (OSError, subprocess.SubprocessError) as error:
            raise InputError(
                f"{option}: {Path(browser).name} did not print the summary; print index.html from a browser"
            ) from error
