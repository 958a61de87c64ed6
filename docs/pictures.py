"""Draw the pictures of README and of the documentation from the product's own output, of phantoms only.

    kneefair demo runs
    python docs/pictures.py runs/quickstart/report/index.html runs/segmented/overlays/knee.png

Chromium draws the first screen of the report. Each picture has 256 colors, so that it stays below 200 kB.
"""

import argparse
import subprocess
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 1280, 1000  # pixels of the browser's window


def main() -> None:
    """Write docs/report.png and docs/segmented_knee.png."""
    parser = argparse.ArgumentParser(description="Draw the pictures of README and of the documentation.")
    parser.add_argument("report", type=Path, help="index.html of the demo's report")
    parser.add_argument("overlay", type=Path, help="overlay of the demo's segmented knee")
    parser.add_argument("--browser", default="chromium", help="name or path of Chromium")
    options = parser.parse_args()
    picture = DOCS / "report.png"
    window = [f"--screenshot={picture}", f"--window-size={WIDTH},{HEIGHT}", options.report.resolve().as_uri()]
    subprocess.run([options.browser, "--headless", "--no-sandbox", "--hide-scrollbars", *window], check=True)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(picture, optimize=True)
    with Image.open(options.overlay) as image:
        small = image.convert("RGB").resize(
            (400, round(400 * image.height / image.width)), Image.Resampling.LANCZOS
        )
        small.quantize(256).save(DOCS / "segmented_knee.png", optimize=True)


if __name__ == "__main__":
    main()
