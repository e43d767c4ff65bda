"""Set up `.venv` with the small build of torch, the package and what a task needs.

    python3 scripts/set_up.py core     what `make demo` needs
    python3 scripts/set_up.py test     what `make test` needs
    python3 scripts/set_up.py all      that, and what needs a C++ compiler

Only files whose hash stands in locks/ are installed; scripts/lock.py writes those.

Only the standard library, and syntax that an old Python can read, so that it can say it is old.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "locks"
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
EXTRAS = {
    "core": "",
    "test": "[dev,proposals,export,openvino,serve,hub,coco,tensorboard,docs]",
    "all": "[dev,proposals,export,openvino,serve,hub,coco,tensorboard,docs,ray,oracles]",
}
NEEDED_LOCKS = {  # one after the other: what is in the last is built with what is in the others
    "core": ("core",),
    "test": ("core", "test"),
    "all": ("core", "test", "all", "built"),
}
NEEDED_GB = {"core": 2, "test": 5, "all": 6}


def main() -> None:
    """Set up what the one argument names; quick when nothing has changed."""
    if len(sys.argv) != 2 or sys.argv[1] not in EXTRAS:
        sys.exit("Usage: set_up.py core|test|all")
    task = sys.argv[1]
    if sys.version_info < (3, 11):
        sys.exit(
            "deconvnet needs Python 3.11 or newer, and %s is %d.%d; "
            "install a newer one and run: make PYTHON=python3.11 ..."
            % (sys.executable, sys.version_info[0], sys.version_info[1])
        )
    stamp = VENV / (".set-up-" + task)
    read = [ROOT / "pyproject.toml", *sorted(LOCKS.glob("*.txt")), Path(__file__)]
    fingerprint = hashlib.sha256(b"".join(path.read_bytes() for path in read)).hexdigest()
    if stamp.is_file() and stamp.read_text() == fingerprint:
        return
    free = shutil.disk_usage(str(ROOT)).free / 1e9
    if free < NEEDED_GB[task]:
        sys.exit(
            "Setting up needs about %d GB and %.1f GB are free in %s; free some space first."
            % (NEEDED_GB[task], free, ROOT)
        )
    if not PYTHON.is_file():
        say("making the environment .venv")
        subprocess.check_call([sys.executable, "-m", "venv", str(VENV)])
    install_torch()
    say("installing deconvnet%s" % EXTRAS[task])
    for lock in NEEDED_LOCKS[task]:
        demand(install_locked(lock))
    demand(pip("install", "-qq", "--no-deps", "--no-build-isolation", "-e", str(ROOT)))
    conflicts = pip("check")
    if conflicts:
        sys.exit(
            conflicts + "What is installed in .venv does not fit together (pip's words are "
            "above); delete .venv and run the same command again."
        )
    stamp.write_text(fingerprint)


def install_torch() -> None:
    """Take the build of torch without CUDA wherever there is one: PyPI's own is several GB."""
    pins = (ROOT / "constraints.txt").read_text().split()
    torch = next(pin for pin in pins if pin.startswith("torch=="))
    there = "import torch; assert torch.__version__.partition('+')[0] == '%s'" % torch[7:]
    if subprocess.call([str(PYTHON), "-c", there], stderr=subprocess.DEVNULL) == 0:
        return
    say("installing " + torch)
    if not install_locked("torch-cpu", "--no-index"):
        return  # a wheel lies on this machine, where PIP_FIND_LINKS says
    small = sys.platform == "linux" and shutil.which("nvidia-smi") is None
    from_project = ("--index-url", CPU_WHEELS, "--retries", "1")
    if small and not install_locked("torch-cpu", *from_project):
        return
    demand(install_locked("torch"))  # without CUDA on macOS and Windows


def install_locked(lock: str, *options: str) -> str:
    """Install a lock's packages from files with its hashes, or stop where a file has another.

    Gives pip's words if it could not, for lack of a file or the network; nothing if it could.
    """
    kind = "--no-build-isolation" if lock == "built" else "--only-binary=:all:"
    hashed = ("-qq", "--no-deps", "--require-hashes", kind)
    words = pip("install", *hashed, *options, "-r", str(LOCKS / (lock + ".txt")))
    if "DO NOT MATCH THE HASHES" in words:
        sys.exit(
            words + "The set-up stops: a file that pip was given does not have a hash that "
            "locks/%s.txt names for it, and was not installed. Try again; if that stays so, "
            "the lock lacks this system's and Python's file, or somebody changed one." % lock
        )
    return words


def pip(*arguments: str) -> str:
    """Run pip in the environment; give its words if it failed, nothing if it did not."""
    ended = subprocess.run(
        [str(PYTHON), "-m", "pip", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        check=False,
    )
    return (ended.stdout or "pip said nothing.\n") if ended.returncode else ""


def demand(words: str) -> None:
    """Stop if pip complained."""
    if words:
        sys.exit(
            words + "pip could not install what is needed (its words are above); look at the "
            "network connection and the free disk space, then run the same command again."
        )


def say(line: str) -> None:
    """Tell where the set-up is."""
    print("set-up: " + line, flush=True)


if __name__ == "__main__":
    main()
