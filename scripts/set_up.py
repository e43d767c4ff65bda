"""Set up `.venv` with the small build of torch, the package and what a task needs.

    python3 scripts/set_up.py core     what `make demo` needs
    python3 scripts/set_up.py test     what `make test` needs
    python3 scripts/set_up.py all      that, and what needs a C++ compiler

Only the standard library, and syntax that an old Python can read, so that it can say it is old.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
TORCH = "torch==2.13.0"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
EXTRAS = {
    "core": "",
    "test": "[dev,proposals,export,openvino,serve,hub,coco,tensorboard,docs]",
    "all": "[dev,proposals,export,openvino,serve,hub,coco,tensorboard,docs,ray,oracles]",
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
    fingerprint = hashlib.sha256(
        b"".join((ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
        + str(Path(__file__).read_bytes()).encode()
    ).hexdigest()
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
    pip("-e", str(ROOT) + EXTRAS[task], "-c", str(ROOT / "constraints.txt"))
    stamp.write_text(fingerprint)


def install_torch() -> None:
    """Take the build of torch without CUDA wherever there is one: PyPI's own is several GB."""
    if works(
        [str(PYTHON), "-c", "import torch; assert torch.__version__.startswith('2.13.0')"]
    ):
        return
    say("installing " + TORCH)
    if works(pip_command("--no-index", "--no-deps", TORCH)):
        return  # a wheel lies on this machine, where PIP_FIND_LINKS says
    has_gpu = shutil.which("nvidia-smi") is not None
    from_project = pip_command("--no-deps", "--index-url", CPU_WHEELS, "--retries", "1", TORCH)
    if not has_gpu and works(from_project):
        return
    pip(TORCH)


def pip_command(*arguments: str) -> list:
    """The words of a call of pip in the environment."""
    return [str(PYTHON), "-m", "pip", "install", "-qq", *arguments]


def pip(*arguments: str) -> None:
    """Install, or say what failed and stop."""
    if subprocess.call(pip_command(*arguments)) != 0:
        sys.exit(
            "pip could not install what is needed (its words are above); look at the network "
            "connection and the free disk space, then run the same command again."
        )


def works(command: list) -> bool:
    """Whether a command ends well; its words are not shown."""
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def say(line: str) -> None:
    """Tell where the set-up is."""
    print("set-up: " + line, flush=True)


if __name__ == "__main__":
    main()
