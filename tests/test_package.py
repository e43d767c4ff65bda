"""What is built and shipped: the wheel, the sdist, the list of ingredients."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import deconvnet
from small_networks import predictor

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "deconvnet"

SHIPPED = {".cpp", ".h", ".css", ".html", ".js", ".svg", ".py", ".typed"}
"""Kinds of files in the wheel, beside the folder of weights."""


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "build_dist.py"
    spec = importlib.util.spec_from_file_location("build_dist", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(script, tmp_path_factory):
    if not (ROOT / ".git").exists():
        pytest.skip("the build takes the list of files from git")
    return script.build(tmp_path_factory.mktemp("dist"))


def test_every_file_of_the_package_is_code_or_named_as_data():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["deconvnet"]
    named = {path for pattern in patterns for path in SOURCES.glob(pattern)}
    files = {path for path in SOURCES.rglob("*") if path.is_file()}
    code = {path for path in files if path.suffix == ".py" or "__pycache__" in path.parts}
    assert files - code - named == set()


def test_everything_is_pinned_to_one_version():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)] == []
    names = [line.partition("==")[0].lower().replace("_", "-") for line in lines]
    assert len(set(names)) == len(names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.split(r"[^\w.-]", line)[0].lower() for line in project["dependencies"]}
    assert {name.replace("_", "-") for name in needed} - set(names) == set()


def test_the_list_of_ingredients_names_all_that_is_needed(script, tmp_path):
    wheel = tmp_path / "deconvnet.whl"
    wheel.write_bytes(b"wheel")
    bill = script.bill_of_materials([wheel])
    names = {component["name"] for component in bill["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {script.normalised(re.split(r"[^\w.-]", d)[0]) for d in project["dependencies"]}
    assert needed <= names
    assert "filelock" in names  # torch's own
    assert "pytest" not in names
    listed = {component["bom-ref"] for component in bill["components"]}
    for entry in bill["dependencies"]:
        assert set(entry["dependsOn"]) <= listed
    own = bill["metadata"]["component"]
    assert own["version"] == deconvnet.__version__
    assert own["hashes"] == [{"alg": "SHA-256", "content": script.sha256(wheel)}]
    json.dumps(bill)


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built):
    wheel = built[0]
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        metadata = next(name for name in names if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    inside = {
        name.removeprefix("deconvnet/") for name in names if name.startswith("deconvnet/")
    }
    here = {
        path.relative_to(SOURCES).as_posix()
        for path in SOURCES.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == here
    about = {name for name in names if not name.startswith("deconvnet/")}
    assert all(".dist-info/" in name for name in about)
    assert any(name.endswith("licenses/LICENSE") for name in about)
    assert {Path(name).suffix for name in inside if not name.startswith("weights/")} <= SHIPPED
    assert "py.typed" in inside
    assert "kernels/winograd.cpp" in inside
    assert "web/static/index.html" in inside
    assert str(ROOT) not in text


@pytest.mark.slow
def test_the_sdist_can_be_built_from_and_holds_no_tests(built):
    with tarfile.open(built[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for needed in ("pyproject.toml", "LICENSE", "README.md", "constraints.txt", "PKG-INFO"):
        assert needed in names
    assert "src/deconvnet/web/static/index.html" in names
    assert "recipes/own-data-unet.yaml" in names
    assert not any(name.split("/")[0] in {"tests", "docs", ".git", ".ci"} for name in names)


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment_outside_the_repository(built, tmp_path):
    """The libraries are those of this environment; the package is the wheel's."""
    venv.create(tmp_path / "venv", with_pip=False)
    bin_folder = "Scripts" if os.name == "nt" else "bin"
    python = tmp_path / "venv" / bin_folder / ("python.exe" if os.name == "nt" else "python")
    site = Path(
        subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        ).strip()
    )
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.check_call([*install, "--target", str(site), str(built[0])])
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    network = predictor("unet", width=1 / 32)
    from deconvnet.checkpoint import save_checkpoint
    from deconvnet.data.image_files import write_png
    from small_networks import picture

    save_checkpoint(tmp_path / "tiny", network.network, network.config)
    write_png(tmp_path / "picture.png", picture())

    def said(*words):
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        ended = subprocess.run(
            [python, "-m", "deconvnet", *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    where = subprocess.check_output(
        [python, "-c", "import deconvnet; print(deconvnet.__file__)"], cwd=tmp_path, text=True
    )
    assert Path(where.strip()).is_relative_to(site)
    assert said("--version").strip() == f"deconvnet {deconvnet.__version__}"
    assert "predict" in said("--help")
    assert "parameters" in said("describe", "tiny", "--size", "32", "--json")
    said("predict", "tiny", "picture.png", "--out", "out", "--device", "cpu", "--quiet")
    assert {path.name for path in (tmp_path / "out").glob("picture.*")} >= {
        "picture.mask.png",
        "picture.overlay.png",
    }
