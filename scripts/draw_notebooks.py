"""Turn examples/*.py into notebooks of the same code.

    python scripts/draw_notebooks.py [DIR]     (default: site/notebooks, as `make docs` has it)

The docstring of an example becomes the first cell, its top-level statements the others, with
comments that stand alone above them as text. Notebooks are JSON of a few keys (nbformat 4.5),
so no library is needed. Nothing is run: the tests run the examples.
"""

import ast
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def main() -> None:
    """Write a notebook for every example."""
    if len(sys.argv) > 2 or sys.argv[1:2] in (["-h"], ["--help"]):
        sys.exit("Usage: draw_notebooks.py [DIR]")
    folder = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "site" / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(EXAMPLES.glob("*.py")):
        text = json.dumps(notebook(path.read_text(encoding="utf-8")), indent=1) + "\n"
        (folder / f"{path.stem}.ipynb").write_text(text, encoding="utf-8")
    print(f"The notebooks are in {folder}.")


def notebook(source: str) -> dict:
    """The notebook of one example.

    `main(*sys.argv[1:])` becomes a plain call, for a notebook has no command line of its own.
    """
    cells = [
        cell(f"{kind}-{number}", kind, text)
        for number, (kind, text) in enumerate(blocks(source))
    ]
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def blocks(source: str) -> list:
    """Pairs of kind (markdown or code) and text; imports and constants share a cell."""
    lines = source.splitlines()
    tree = ast.parse(source)
    found = [("markdown", prose(ast.get_docstring(tree) or ""))]
    end = tree.body[0].end_lineno if ast.get_docstring(tree) else 0
    together = False
    for statement in tree.body[1 if end else 0 :]:
        start = min(
            [statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))]
        )
        comment = [line.strip()[1:].strip() for line in lines[end : start - 1] if line.strip()]
        if comment:
            found.append(("markdown", "\n".join(comment)))
        code = "\n".join(lines[start - 1 : statement.end_lineno])
        small = not isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.If))
        if small and together and not comment:
            gap = "\n" * (start - end)
            found[-1] = ("code", found[-1][1] + gap + code)
        else:
            found.append(("code", called(code, tree)))
        together = small
        end = statement.end_lineno
    return found


def prose(docstring: str) -> str:
    """The docstring as Markdown: its first sentence as the title, indented lines as code."""
    title, _, rest = docstring.partition("\n\n")
    rest = re.sub(r"^python .*$", r"`\g<0>`", rest, flags=re.MULTILINE)
    return f"# {title.strip().rstrip('.')}\n\n{rest.strip()}".strip()


def called(code: str, tree: ast.Module) -> str:
    """The guarded call at an example's end, as a cell calls it.

    An argument that must be given is a picture: main(picture) is called as main("picture.jpg").
    """
    needed = [
        f'"{argument.arg}.jpg"'
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
        for argument in node.args.args[: len(node.args.args) - len(node.args.defaults)]
    ]
    call = f"main({', '.join(needed)})"
    return re.sub(r'^if __name__ == "__main__":\n    main\(.*\)$', call, code)


def cell(name: str, kind: str, text: str) -> dict:
    """One cell; the name is its id."""
    lines = text.splitlines(keepends=True)
    made = {"cell_type": kind, "id": name, "metadata": {}, "source": lines}
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


if __name__ == "__main__":
    main()
