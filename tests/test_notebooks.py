"""The notebooks are the examples, cell by cell."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from programs import load_program

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "draw_notebooks.py"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    subprocess.run([sys.executable, str(SCRIPT), str(folder)], check=True, capture_output=True)
    return folder


def script():
    return load_program("draw_notebooks")


def code_of(cells):
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def without_the_call(source):
    """The statements of an example as trees, but for its docstring and the guarded call."""
    return [ast.dump(node) for node in ast.parse(source).body[1:-1]]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_notebook_is_nbformat_4_and_holds_all_the_code(path, drawn):
    made = json.loads((drawn / f"{path.stem}.ipynb").read_text(encoding="utf-8"))
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert set(made) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert len({cell["id"] for cell in made["cells"]}) == len(made["cells"])
    for cell in made["cells"]:
        keys = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            keys |= {"execution_count", "outputs"}
        assert set(cell) == keys
        assert cell["cell_type"] in {"markdown", "code"}
        assert all(isinstance(line, str) for line in cell["source"])
    source = path.read_text(encoding="utf-8")
    shown = ast.parse(code_of(made["cells"])).body
    assert [ast.dump(node) for node in shown[:-1]] == without_the_call(source)
    needs_a_picture = path.stem == "06_use_an_exported_network"
    assert ast.unparse(shown[-1]) == ("main('picture.jpg')" if needs_a_picture else "main()")
    title = ast.get_docstring(ast.parse(source)).splitlines()[0].rstrip(".")
    assert "".join(made["cells"][0]["source"]).startswith(f"# {title[:40]}")


def test_there_is_a_notebook_for_each_example(drawn):
    assert {path.stem for path in drawn.iterdir()} == {path.stem for path in EXAMPLES} != set()


def test_comments_that_stand_alone_become_text_and_others_stay_in_the_code():
    source = '"""Two."""\n\nimport os\n\n# Why it is\n# so.\nx = 1  # one\n\n\n'
    source += "def f():\n    # in\n    return x\n"
    made = script().notebook(source)["cells"]
    kinds = [(cell["cell_type"], "".join(cell["source"])) for cell in made]
    assert kinds == [
        ("markdown", "# Two"),
        ("code", "import os"),
        ("markdown", "Why it is\nso."),
        ("code", "x = 1  # one"),
        ("code", "def f():\n    # in\n    return x"),
    ]


def test_a_notebook_runs_cell_by_cell(drawn, tmp_path, monkeypatch, capsys):
    """The shortest notebook, run cell by cell as Jupyter would."""
    monkeypatch.chdir(tmp_path)
    made = json.loads((drawn / "03_unpooling_by_hand.ipynb").read_text(encoding="utf-8"))
    names = {"__name__": "__main__"}
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)  # noqa: S102 - ours
    assert "what the switches point at is what was pooled: True" in capsys.readouterr().out
