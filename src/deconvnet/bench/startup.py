"""Start-up: how long a newcomer waits."""

import subprocess
import sys
from functools import partial

from deconvnet.bench.report import Table
from deconvnet.bench.settings import Settings
from deconvnet.bench.timing import interleaved


def bench_startup(_: Settings) -> list[Table]:
    """How long a newcomer waits for the first word."""
    commands = {
        "python": ["-c", "pass"],
        "import deconvnet": ["-c", "import deconvnet"],
        "deconvnet --help": ["-m", "deconvnet", "--help"],
        "import torch": ["-c", "import torch"],
        "import deconvnet.predict": ["-c", "import deconvnet.predict"],
    }
    calls = {
        name: partial(
            subprocess.run, [sys.executable, *words], check=True, stdout=subprocess.DEVNULL
        )
        for name, words in commands.items()
    }
    rows = tuple((name, *found.milliseconds()) for name, found in interleaved(calls).items())
    return [Table("Start-up: ms", ("of", "median", "low", "high"), rows, kind="startup")]
