"""Draw the pictures of docs/gallery.md by the very commands that stand there.

    python scripts/draw_gallery.py DEMO [NAME...]

DEMO is the folder that `deconvnet demo` wrote; the page calls it demo. With names (failures,
architecture-unet, ...) only those are drawn. Each picture is then made small enough for the
repository: 1,000 pixels wide, 256 colours at most.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "pictures" / "gallery"
WIDTH = 1000


def main() -> None:
    """Run each command of the page, or of the pictures named."""
    if len(sys.argv) < 2:
        sys.exit("Usage: draw_gallery.py DEMO [NAME...]")
    demo, names = Path(sys.argv[1]), sys.argv[2:]
    for line in re.findall(r"^deconvnet figure .*", PAGE.read_text(encoding="utf-8"), re.M):
        words = shlex.split(line)
        picture = PICTURES / words[words.index("--out") + 1]
        if names and picture.stem not in names:
            continue
        words[words.index("--out") + 1] = str(picture)
        place = [
            str(demo / w.removeprefix("demo/")) if w.startswith("demo/") else w for w in words
        ]
        subprocess.run([sys.executable, "-m", *place], check=True)
        reduce(picture)
        print(picture.relative_to(ROOT), f"{picture.stat().st_size / 1000:.0f} kB")


def reduce(picture: Path) -> None:
    """Scale a picture down and give it a palette."""
    with Image.open(picture) as drawn:
        height = round(drawn.height * WIDTH / drawn.width)
        small = drawn.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    few = small.quantize(256, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


if __name__ == "__main__":
    main()
