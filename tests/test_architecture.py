"""ARCHITECTURE.md says what the code does."""

import re
from pathlib import Path

import pytest

from programs import load_program

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
STEPS = re.findall(r"\[`([\w.]+)\.(\w+)`\]\((src/[^)]+)\)", PAGE)


@pytest.fixture(scope="module")
def draw_layers():
    return load_program("draw_layers")


def test_the_layer_diagram_is_the_one_that_import_linter_enforces(draw_layers):
    shown = PAGE.partition(draw_layers.START + "\n")[2].partition(draw_layers.END)[0]
    assert shown == draw_layers.diagram(), (
        "the contract or the modules changed; run: python scripts/draw_layers.py --write"
    )


def test_the_diagram_holds_every_module_of_the_package_once(draw_layers):
    entries = (ROOT / "src" / "deconvnet").iterdir()
    modules = {entry.stem for entry in entries if entry.suffix == ".py"}
    modules |= {entry.parent.name for entry in (ROOT / "src" / "deconvnet").glob("*/*.py")}
    drawn = [
        name
        for line in draw_layers.diagram().splitlines()
        if line.startswith("│")
        for name in re.findall(r"\w+", line)
    ]
    assert sorted(drawn) == sorted(modules - {"__init__", "__main__"})


def test_the_diagram_shows_which_neighbours_may_import_one_another(draw_layers, tmp_path):
    package = tmp_path / "src" / "house"
    for name in ("door", "hall", "attic", "kitchen", "cellar"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        "[tool.importlinter]\n"
        '[[tool.importlinter.contracts]]\nid = "layers"\ncontainers = ["house"]\n'
        'layers = ["door", "(garage)", "hall : (attic)", "kitchen | cellar"]\n'
        '[[tool.importlinter.contracts]]\nid = "independent-networks"\nmodules = ["house.a"]\n'
    )
    shown = draw_layers.diagram(tmp_path).splitlines()
    assert [line.strip("│ ") for line in shown if line.startswith("│")] == [
        "door",
        "hall · attic",
        "kitchen | cellar",
    ]


def test_every_step_of_the_walk_names_something_its_file_defines():
    assert len(STEPS) >= 10
    for module, name, path in STEPS:
        assert path.removeprefix("src/deconvnet/").removesuffix(".py") == module.replace(
            ".", "/"
        )
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(def|class) {name}\b", source, re.MULTILINE), (path, name)


def test_the_page_fits_on_one_page():
    assert len(PAGE.splitlines()) <= 75
