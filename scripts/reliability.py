"""Make docs/reliability.md from the counts in docs/reliability.json.

    python scripts/reliability.py            print the page
    python scripts/reliability.py --write    write it

The counts come from the long tests: DECONVNET_RECORD=1 python -m pytest -m slow. A row is
{"name", "count", "result", "date", "machine"}; tests/reliability.py adds them.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS, PAGE = ROOT / "docs" / "reliability.json", ROOT / "docs" / "reliability.md"

HEAD = """# Reliability

What the long tests tried to break, and how often. This page is made by `scripts/reliability.py`
from counts that the tests wrote themselves (`docs/reliability.json`); none is typed.

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
        cells = (row["name"], f"{row['count']:,}", row["result"], row["date"], row["machine"])
        lines.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(lines)


if __name__ == "__main__":
    main()
