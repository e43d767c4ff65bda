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


def record(name, count, result, path=COUNTS, *, part=None):
    """Put a row in the place of that of the same name.

    Args:
        name: What was tried, in a few words.
        count: How often.
        result: What came of it, in a few words.
        path: The file of rows.
        part: Which part of the whole this was, of a count made bit by bit. It takes the place
            of the same part before, and the row tells of all parts together.
    """
    if not os.environ.get("DECONVNET_RECORD"):
        return
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    row = {
        "name": name,
        "count": count,
        "result": result,
        "date": today,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    if part is not None:
        before = next((r["parts"] for r in rows if r["name"] == name and "parts" in r), {})
        parts = {**before, part: {"count": count, "result": result, "date": today}}
        results = dict.fromkeys(parts[key]["result"] for key in sorted(parts))
        row |= {
            "count": sum(one["count"] for one in parts.values()),
            "result": "; ".join(results),
            "parts": dict(sorted(parts.items())),
        }
    rows = sorted([r for r in rows if r["name"] != name] + [row], key=lambda r: r["name"])
    path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
