"""What is installed, built and shipped: the locks, the wheel, the sdist, the ingredients."""

import hashlib
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
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import deconvnet
from programs import load_program
from small_networks import predictor

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "deconvnet"

SHIPPED = {".cpp", ".h", ".css", ".html", ".js", ".svg", ".py", ".typed"}
"""Kinds of files in the wheel, beside the folder of weights."""


@pytest.fixture(scope="module")
def script():
    return load_program("build_dist")


@pytest.fixture(scope="module")
def set_up():
    return load_program("set_up")


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


def locked(lock):
    """What a lock has installed: (pin, hashes) of each package."""
    text = (ROOT / "locks" / f"{lock}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    entries = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [
        (entry.split()[0], re.findall(r"(?<= --hash=)\S+", entry)) for entry in entries if entry
    ]


def test_the_locks_have_a_hash_of_every_pin_and_nothing_else():
    locks = {path.stem: locked(path.stem) for path in (ROOT / "locks").glob("*.txt")}
    hashes = {pin: found for lock in locks.values() for pin, found in lock}
    assert [pin for pin, found in hashes.items() if not found] == []
    every = [one for found in hashes.values() for one in found]
    assert [one for one in every if not re.fullmatch("sha256:[0-9a-f]{64}", one)] == []
    (small,) = [pin for pin, _ in locks.pop("torch-cpu")]
    pins = [pin for lock in locks.values() for pin, _ in lock]
    assert sorted(pins) == (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert small.removesuffix("+cpu") in pins


@pytest.mark.parametrize("task", ["core", "test"])
def test_the_locks_hold_all_that_a_task_needs_on_this_machine(set_up, script, task):
    """Found from what is installed; scripts/lock.py asks the index instead."""
    pins = [pin for lock in ("torch", *set_up.NEEDED_LOCKS[task]) for pin, _ in locked(lock)]
    version = dict(pin.split("==") for pin in pins)
    needed = all_needed(f"{script.NAME}{set_up.EXTRAS[task]}") - {script.NAME}
    assert needed - version.keys() == set()
    installed = {name: metadata.version(name).partition("+")[0] for name in needed}
    assert {name: version[name] for name in needed} == installed


def all_needed(requirement):
    """The names of what a requirement needs here, itself and the indirect among them."""
    seen, waiting = set(), [Requirement(requirement)]
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        for extra in {"", *asked.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            lines = [Requirement(line) for line in metadata.requires(name) or []]
            waiting += [o for o in lines if not o.marker or o.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


@pytest.mark.parametrize("task", ["core", "test", "all"])
def test_the_set_up_installs_nothing_without_a_hash(set_up, task, tmp_path, monkeypatch):
    asked = []

    def recorded(command, **_options):
        asked.append([str(word) for word in command[3:]])
        missing = "--no-index" in command or "--index-url" in command
        return subprocess.CompletedProcess(command, int(missing), "no such file")

    monkeypatch.setattr(set_up, "VENV", tmp_path)
    monkeypatch.setattr(set_up, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(set_up.subprocess, "run", recorded)
    monkeypatch.setattr(set_up.subprocess, "call", lambda *_args, **_options: 1)
    monkeypatch.setattr(set_up.shutil, "which", lambda _name: None)
    monkeypatch.setattr(sys, "argv", ["set_up.py", task])
    set_up.main()
    installs = [words for words in asked if words[0] == "install"]
    hashed = [words for words in installs if "--require-hashes" in words]
    own = ["install", "-qq", "--no-deps", "--no-build-isolation", "-e", str(set_up.ROOT)]
    assert [words for words in installs if words not in hashed] == [own]
    assert all("--no-deps" in words for words in hashed)
    fetches_no_builder = {"--only-binary=:all:", "--no-build-isolation"}
    assert all(fetches_no_builder & set(words) for words in hashed)
    taken = [Path(words[-1]).stem for words in hashed]
    assert [lock for lock in taken if lock != "torch-cpu"] == [
        "torch",
        *set_up.NEEDED_LOCKS[task],
    ]
    assert asked[-1] == ["check"]
    before = len(asked)
    set_up.main()  # nothing changed
    assert len(asked) == before


@pytest.mark.parametrize("damaged", [False, True])
def test_a_file_with_another_hash_stops_the_set_up(set_up, damaged, tmp_path, monkeypatch):
    wheel = tmp_path / "drawn-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: drawn\nVersion: 1.0\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("drawn.py", "colour = 'red'\n")
        archive.writestr("drawn-1.0.dist-info/METADATA", about)
        archive.writestr(
            "drawn-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("drawn-1.0.dist-info/RECORD", "")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if damaged:
        sha256 = f"{(int(sha256[0], 16) + 1) % 16:x}{sha256[1:]}"
    (tmp_path / "small.txt").write_text(f"drawn==1.0 \\\n    --hash=sha256:{sha256}\n")
    monkeypatch.setattr(set_up, "LOCKS", tmp_path)
    monkeypatch.setattr(set_up, "PYTHON", Path(sys.executable))
    into = ("--no-index", "--find-links", str(tmp_path), "--target", str(tmp_path / "into"))
    if damaged:
        with pytest.raises(SystemExit, match=r"does not have a hash that locks/small\.txt"):
            set_up.install_locked("small", *into)
    else:
        assert set_up.install_locked("small", *into) == ""
    assert (tmp_path / "into" / "drawn.py").is_file() is not damaged


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
