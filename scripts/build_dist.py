"""Build the wheel, the sdist and their list of ingredients (SBOM).

    python scripts/build_dist.py [FOLDER]      into dist/ if not given

It builds a copy of the files that git knows or would add, so that neither old build folders nor
what lies about in the tree gets in, and without the network: setuptools must be installed. The
SBOM is CycloneDX 1.6 JSON: what this environment has installed of all that the package needs.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "deconvnet"

BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]  # setuptools changes it
print(build_meta.build_wheel(out))
print(build_meta.build_sdist(out))
"""


def main() -> None:
    """Build all three, and name them."""
    out = Path(sys.argv[1] if sys.argv[1:] else ROOT / "dist").resolve()
    files = build(out)
    sbom = out / f"{files[0].name.removesuffix('.whl')}.cdx.json"
    sbom.write_text(json.dumps(bill_of_materials(files), indent=2) + "\n", encoding="utf-8")
    for path in (*files, sbom):
        print(path)


def build(out: Path) -> "list[Path]":
    """Build the wheel and the sdist into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / NAME
        for name in source_files():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
        command = [sys.executable, "-c", BUILD, str(out)]
        ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
        if ended.returncode:
            sys.exit(f"The build failed:\n{ended.stdout}{ended.stderr}")
        return [out / name for name in ended.stdout.splitlines() if name.startswith(f"{NAME}-")]


def source_files() -> "list[str]":
    """What git knows or would add, where it is there."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


def bill_of_materials(files: "list[Path]") -> dict:
    """What the package is and needs, from the metadata of what is installed here.

    Args:
        files: The wheel and the sdist, whose hashes are in it.
    """
    needed = ingredients()
    own = metadata.distribution(NAME)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": component(own, "application")
            | {"hashes": [{"alg": "SHA-256", "content": sha256(path)} for path in files[:1]]},
            "properties": [
                {"name": f"sha256:{path.name}", "value": sha256(path)} for path in files
            ],
        },
        "components": [component(found, "library") for found in needed.values()],
        "dependencies": [
            {
                "ref": reference(found),
                "dependsOn": [reference(needed[n]) for n in names_in(found, needed)],
            }
            for found in (own, *needed.values())
        ],
    }


def ingredients() -> "dict[str, metadata.Distribution]":
    """All that the package needs without extras, also indirectly, as far as it is installed."""
    found: "dict[str, metadata.Distribution]" = {}
    waiting = [NAME]
    while waiting:
        for name in requirements(metadata.distribution(waiting.pop())):
            try:
                if name not in found and name != NAME:
                    found[name] = metadata.distribution(name)
                    waiting.append(name)
            except metadata.PackageNotFoundError:  # of another system, or another Python
                continue
    return dict(sorted(found.items()))


def requirements(distribution: "metadata.Distribution") -> "list[str]":
    """The names of what it needs without extras."""
    lines = [line for line in distribution.requires or [] if "extra ==" not in line]
    return sorted({normalised(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in lines})


def names_in(distribution: "metadata.Distribution", needed: "dict[str, object]") -> "list[str]":
    """Those of its requirements that are installed."""
    return [name for name in requirements(distribution) if name in needed]


def component(distribution: "metadata.Distribution", kind: str) -> dict:
    """An entry of the list."""
    told = distribution.metadata
    licence = told.get("License-Expression") or told.get("License") or "not declared"
    return {
        "type": kind,
        "bom-ref": reference(distribution),
        "name": normalised(told["Name"]),
        "version": distribution.version,
        "purl": reference(distribution),
        "licenses": [{"license": {"name": licence.splitlines()[0][:100]}}],
    }


def reference(distribution: "metadata.Distribution") -> str:
    """Its package URL."""
    version = urllib.parse.quote(distribution.version)
    return f"pkg:pypi/{normalised(distribution.metadata['Name'])}@{version}"


def normalised(name: str) -> str:
    """A name as package indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
