"""What the long tests counted, for docs/reliability.md (scripts/reliability.py).

`record` adds to docs/reliability.json only where DECONVNET_RECORD is set, so that a test run
leaves the working tree alone otherwise.
"""

import datetime as dt
import json
import os
import platform
from pathlib import Path

COUNTS = Path(__file__).resolve().parent.parent / "docs" / "reliability.json"


def record(name, count, result, path=COUNTS):
    """Put a row in the place of that of the same name.

    Args:
        name: What was tried, in a few words.
        count: How often.
        result: What came of it, in a few words.
        path: The file of rows.
    """
    if not os.environ.get("DECONVNET_RECORD"):
        return
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    row = {
        "name": name,
        "count": count,
        "result": result,
        "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    rows = sorted([r for r in rows if r["name"] != name] + [row], key=lambda r: r["name"])
    path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
