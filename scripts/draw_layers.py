"""Draw who may import whom, from the contract in pyproject.toml that import-linter enforces.

    python scripts/draw_layers.py            print the diagram
    python scripts/draw_layers.py --write    put it into ARCHITECTURE.md

tests/test_architecture.py compares the two, so the diagram cannot lie.
"""

import re
import sys
import textwrap
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
START, END = "<!-- layers: made by scripts/draw_layers.py -->", "<!-- end of layers -->"
INSIDE = 88


def main() -> None:
    """Print the diagram, or write it into ARCHITECTURE.md."""
    if sys.argv[1:] == ["--write"]:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        after = rest.partition(END)[2]
        text = f"{before}{START}\n{diagram()}{END}{after}"
        PAGE.write_text(text, encoding="utf-8")
    elif sys.argv[1:]:
        sys.exit("Usage: draw_layers.py [--write]")
    else:
        print(diagram(), end="")


def diagram(root: Path = ROOT) -> str:
    """Give the diagram as a block of Markdown: a box for each layer, the top one first.

    Optional modules of the contract, "(name)", are drawn where they exist.
    """
    with (root / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    by_id = {contract["id"]: contract for contract in contracts}
    package = root / "src" / by_id["layers"]["containers"][0]
    boxes = [wrapped(layer, package) for layer in by_id["layers"]["layers"]]
    rule = "─" * (INSIDE + 2)
    lines = ["```text", f"┌{rule}┐"]
    for index, box in enumerate(filter(None, boxes)):
        lines += [f"├{rule}┤"] if index else []
        lines += [f"│ {line:<{INSIDE}} │" for line in box]
    alone = (name.rpartition(".")[2] for name in by_id["independent-networks"]["modules"])
    return "\n".join(
        [
            *lines,
            f"└{rule}┘",
            "A module imports from the boxes below its own. Inside a box, names parted by ·",
            "may import one another, and names parted by | may not.",
            f"In models, none of {', '.join(alone)} imports another.",
            "```\n",
        ]
    )


def wrapped(layer: str, package: Path) -> list[str]:
    """Give the names of a layer that exist, on as many lines as they need.

    Siblings parted by `|` must not import one another; those parted by `:` may.
    """
    names = [name.strip("() ") for name in re.split(r"[|:]", layer)]
    there = [name for name in names if exists(package, name)]
    return textwrap.wrap((" · " if ":" in layer else " | ").join(there), INSIDE)


def exists(package: Path, name: str) -> bool:
    """Whether the package has a module or a folder of that name."""
    return (package / f"{name}.py").is_file() or (package / name / "__init__.py").is_file()


if __name__ == "__main__":
    main()
