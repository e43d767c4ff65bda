"""Make docs/reliability.md from the counts in docs/reliability.json.

    python scripts/reliability.py            print the page
    python scripts/reliability.py --write    write it

The counts come from the long tests: DECONVNET_RECORD=1 python -m pytest -m slow. A row is
{"name", "count", "result", "date", "machine"}, and "parts" where it was counted bit by bit;
tests/reliability.py adds them.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS, PAGE = ROOT / "docs" / "reliability.json", ROOT / "docs" / "reliability.md"

HEAD = """# Reliability

What is promised, and how it was tried. This page is made by `scripts/reliability.py`; the
counts at its end were written by the tests themselves (`docs/reliability.json`), none is
typed.

## Files that others made

A damaged or hostile file is refused in a sentence that names it, with exit code 2 on the
command line; there is no traceback, no hang, and nothing in it is run. That holds for
pictures, masks, tables of classes, lists, recipes, COCO's and Labelme's JSON, checkpoints,
`.caffemodel`, `.pth`, archives and the journals of predictions.

- Tried with valid files of every kind that were changed at random (bytes, values of JSON,
  lines, PNG chunks and ZIP members with right checksums), and with mean ones: headers that
  lie, decompression bombs, 1 x 30,000 pixels, pickles that call something, YAML whose anchors
  multiply (`tests/fuzz`, `make fuzz`).
- An input fails if anything but a `UserError` comes out, if it takes more than 5 s of
  processor time, if it takes 800 MiB more than the process held before it (with pictures
  limited to 4 million pixels), if the process dies, or if code ran.
- Pictures over 200 million pixels are refused by their header, before a page is decoded. Only
  JPEG, PNG, TIFF, WebP, BMP, GIF and PPM are decoded; no decoder starts a program.
- A network is compared with its weights before memory is taken for it. One that takes neither
  grey nor RGB pictures is refused before a picture is read.
- Not promised: silence of the C libraries. libtiff writes a line of its own to stderr about a
  damaged TIFF; it could be silenced only through a private file of Pillow's wheels for Linux,
  for all of the process.

## What is shipped

- `constraints.txt` pins every package to one version, `locks/` every file of it to its SHA-256;
  the set-up installs nothing else, and stops at a file with another hash
  ([how](decisions/0018-every-file-by-its-hash.md)).
- `make dist` builds wheel and sdist and lists the ingredients (CycloneDX). The long tests
  build both, look at what is in them, install the wheel into an empty environment, and
  predict a picture outside the repository.
- At a release: `pip-audit -r constraints.txt --no-deps --disable-pip --strict`. Nobody knows
  yet what it says: version 2.10.1, run on 2026-11-22, could reach neither of its services
  (PyPI's JSON, OSV) and looked up none of the 133 packages. Without `--strict` it then still
  says that it found nothing.
- Python 3.11 on Linux is tested in full, long tier and browser too. On 3.12.1 `make test` set
  itself up and passed but for one test of a page that 3.11 spells differently, which is mended.
  macOS and Windows are untested; what they lack (`resource`, `/proc`, the folder's fsync) is
  asked for before it is used.

## Counts

| What was tried | Times | What came of it | When | On |
|---|---:|---|---|---|
"""


def main() -> None:
    """Print the page, or write it."""
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    elif sys.argv[1:]:
        sys.exit("Usage: reliability.py [--write]")
    else:
        print(page(), end="")


def page() -> str:
    """Give the page: a line for each count."""
    rows = json.loads(COUNTS.read_text(encoding="utf-8"))
    lines = []
    for row in rows:
        parts = row.get("parts", ())
        among = f" (in {len(parts)} parts: {', '.join(parts)})" if parts else ""
        result = row["result"] + among
        cells = (row["name"], f"{row['count']:,}", result, row["date"], row["machine"])
        lines.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(lines)


if __name__ == "__main__":
    main()
