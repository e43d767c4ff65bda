"""Write docs/reference.md from the docstrings of the public names and of the recipe's settings.

.venv/bin/python scripts/draw_reference.py --write
"""

import argparse
import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike

import deconvnet
from deconvnet.recipe import Recipe, setting_docs

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"

HEAD = """# Reference

Written by `scripts/draw_reference.py` from the docstrings. Arrays are NumPy unless a tensor
is named.
"""

ARRAYS = {"ArrayLike | None": ArrayLike | None, "ArrayLike": ArrayLike}

SECTION = re.compile(r"^(Args|Returns|Raises|Source|Differs):\s*(.*)$")


def main() -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/reference.md")
    text = page()
    if parser.parse_args().write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for name in sorted(set(deconvnet.__all__) - {"__version__"}):
        value = getattr(deconvnet, name)
        if inspect.ismodule(value):
            parts += [f"## deconvnet.{name}\n", described(value)]
            parts += [
                entry(f"deconvnet.{name}.{member}", getattr(value, member), "###")
                for member in members(value)
            ]
        else:
            parts.append(entry(f"deconvnet.{name}", value, "##"))
    parts.append(settings())
    return "\n".join(parts).rstrip() + "\n"


def members(module: Any) -> list[str]:
    """The public names of a module that it defines itself, or exports by __all__."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and (inspect.isfunction(value) or inspect.isclass(value))
    )


def entry(path: str, value: Any, level: str) -> str:
    """A heading, the signature, and the docstring of one name."""
    lines = [f"{level} {path}\n"]
    if value is Recipe:
        lines.append(f"{described(value)}\nIts settings are [below](#settings-of-a-recipe).\n")
    elif value is deconvnet.MODELS:
        names = ", ".join(f"`{name}`" for name in value)
        lines.append(f"Every network class by its name: {names}.\n")
    elif callable(value):
        try:
            signature = re.sub(r" at 0x\w+", "", str(inspect.signature(value)))
            for name, alias in ARRAYS.items():  # Python 3.11 spells an alias out
                signature = signature.replace(inspect.formatannotation(alias), name)
        except (TypeError, ValueError):
            signature = "(...)"
        short = re.sub(r"[a-zA-Z_]\w*\.(?=[a-zA-Z])", "", signature)
        lines.append(f"```text\n{path.rpartition('.')[2]}{short}\n```\n")
        lines.append(described(value))
        lines += [
            entry(f"{path}.{name}", member, level + "#")
            for name, member in vars(value).items()
            if inspect.isclass(value)
            and (name == "__call__" or name[0] != "_")
            and inspect.isfunction(member)
            and inspect.getdoc(member)
            and not issubclass(value, torch.nn.Module)
        ]
    return "\n".join(lines)


def described(value: Any) -> str:
    """A docstring as Markdown: sections become bold words, examples code."""
    lines: list[str] = []
    in_list = in_code = False
    for line in inspect.cleandoc(inspect.getdoc(value) or "").splitlines():
        if line.startswith(">>>") and not in_code:
            lines += ["", "```pycon"]
            in_code = True
        if in_code:
            if not line.strip():
                lines += ["```", ""]
                in_code = False
            else:
                lines.append(line)
            continue
        section = SECTION.match(line)
        if section:
            in_list = section[1] in {"Args", "Raises"}
            lines += ["", f"**{section[1]}** {section[2]}".rstrip(), ""]
        elif in_list and re.match(r"^    \w[\w, *]*:", line):
            name, _, rest = line.strip().partition(":")
            lines.append(f"- `{name}`:{rest}")
        elif in_list and line.startswith("        "):
            lines.append(f"  {line.strip()}")
        else:
            in_list = in_list and not line.strip()
            lines.append(line.strip() if line.startswith("    ") else line)
    if in_code:
        lines.append("```")
    return "\n".join(lines) + "\n"


def settings() -> str:
    """The settings of a recipe, with their defaults, as a table."""
    docs = setting_docs()
    rows = ["## Settings of a recipe\n", "| setting | default | what it is |", "|---|---|---|"]
    for field in fields(Recipe):
        default = getattr(Recipe(), field.name)
        rows.append(f"| `{field.name}` | {default} | {docs[field.name].replace('|', '/')} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
