"""Write locks/: the SHA-256 of every file of every package that the set-up installs.

    python3 scripts/lock.py     needs uv on the path (pip install uv) and the network

A package that constraints.txt names keeps its version, another gets the newest that fits; then
constraints.txt names all that is needed and nothing else. So to move a pin, change its line, or
delete it, and run this. uv resolves for all systems and Pythons at once.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from set_up import CPU_WHEELS, EXTRAS, LOCKS, ROOT

FIRST_PYTHON = "3.11.5"  # pymdown-extensions, for the docs, asks for .5; the core does not
CUDA = re.compile(r"torch$|triton$|nvidia-|cuda-")  # not needed where the small torch is
BUILT = {"pydensecrf2": ["cython==0.29.36", "wheel"]}  # no wheel: what builds it is locked too
HEAD = "# Written by scripts/lock.py; change constraints.txt and run that instead.\n"


def main() -> None:
    """Resolve what each task needs, and write the locks and the constraints."""
    entries = resolve("all", "--generate-hashes")
    names = {task: set(resolve(task)) for task in ("core", "test")}
    torch = {name for name in entries if CUDA.match(name)}
    core = names["core"] - torch
    test = names["test"] - core - torch
    built = set(BUILT)
    locks = {
        "torch": torch,
        "core": core,
        "test": test,
        "all": set(entries) - torch - core - test - built,
        "built": built,
    }
    versions = [entry.split()[0] for entry in entries.values()]
    torch_cpu = lock_of_torch_cpu(entries["torch"].split()[0] + "+cpu")
    LOCKS.mkdir(exist_ok=True)
    for lock, needed in locks.items():
        lines = "".join(entries[name] for name in sorted(needed))
        write(LOCKS / (lock + ".txt"), HEAD + lines)
    write(LOCKS / "torch-cpu.txt", torch_cpu)
    write(ROOT / "constraints.txt", "\n".join(sorted(versions)) + "\n")


def resolve(task: str, *options: str) -> "dict[str, str]":
    """Give the lines of a lock for each package that a task needs, on any system and Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = re.findall(r"\w+", EXTRAS[task])
    more = project["build-system"]["requires"]
    if task == "all":
        more = more + [line for lines in BUILT.values() for line in lines]
    words = ["pyproject.toml", "-", "-c", "constraints.txt", "--universal"]
    words += ["--python-version", FIRST_PYTHON, "--fork-strategy", "fewest", *options]
    ended = uv("\n".join(more), *words, *("--extra=" + extra for extra in extras))
    if ended.returncode:
        sys.exit(ended.stderr + "uv found no versions that fit (its words are above).")
    entries = [entry + "\n" for entry in re.split(r"\n(?=\w)", ended.stdout.strip())]
    found = {re.match(r"[\w.-]+", entry)[0]: entry for entry in entries}
    if len(found) != len(entries):
        sys.exit("A package needs two versions, for two systems or Pythons; pin one that fits.")
    return found


def lock_of_torch_cpu(pin: str) -> str:
    """Give the lock of the small builds, or the one that is there if their index is not."""
    ended = uv(pin, "-", "--no-deps", "--generate-hashes", "--index-url", CPU_WHEELS)
    if not ended.returncode:
        return HEAD + ended.stdout
    path = LOCKS / "torch-cpu.txt"
    if not path.is_file() or pin not in path.read_text(encoding="utf-8").split():
        sys.exit(ended.stderr + "locks/torch-cpu.txt needs %s from %s." % (pin, CPU_WHEELS))
    print("%s: not reached; locks/torch-cpu.txt stays as it is" % CPU_WHEELS)
    return path.read_text(encoding="utf-8")


def uv(requirements: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run uv's resolver on requirements that it reads as the file -."""
    program = shutil.which("uv") or sys.exit("This needs uv on the path: pip install uv")
    return subprocess.run(
        [program, "pip", "compile", "--quiet", "--no-header", "--no-annotate", *words],
        input=requirements,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def write(path: Path, text: str) -> None:
    """Write a file whole."""
    path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
