"""Ask a server of ours by many clients at once, and report what it answered and what it cost.

    python scripts/load_server.py CHECKPOINT [--clients 64] [--seconds 60] [--json FILE]

Starts `deconvnet serve` on a free port. Each client asks again as soon as it has its answer:
two times in three for a segmentation, else for the networks, the page or nonsense; one in
twenty goes away before the answer. Every mask is compared with the one that `deconvnet predict`
writes for the same picture.
Exits 1 if a mask was wrong, or a 5xx was anything but 503 with Retry-After. DECONVNET_RECORD=1
records a run of ten minutes or more for docs/reliability.md.
"""

import argparse
import asyncio
import base64
import collections
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import PIL.Image

from deconvnet.data.image_files import write_png
from deconvnet.data.scenes import Scenes

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

COMMAND = [sys.executable, "-m", "deconvnet"]
ONE_THREAD = ["--threads", "1", "--device", "cpu", "--quiet"]

RECORDED_SECONDS = 600
"""Shorter runs are no ground for a promise."""


def main() -> None:
    """Start the server, ask it, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    pictures, masks = asked_of_the_command_line(asked.checkpoint)
    command = [*COMMAND, "serve", asked.checkpoint, "--port", "0", *ONE_THREAD]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline() if server.stdout else ""
        address = re.search(r"http://[^ /]+", line)
        if address is None:
            sys.exit("the server did not start: " + line)
        load = Load(address.group(), server.pid, pictures, masks)
        report = asyncio.run(load.run(asked.clients, asked.seconds))
    finally:
        server.terminate()
        server.wait(60)
    print(json.dumps(report, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if asked.seconds >= RECORDED_SECONDS:
        from reliability import record

        name = f"Requests to a server of {asked.checkpoint}, 1 thread (scripts/load_server.py)"
        record(name, *in_words(report))
    sys.exit(1 if report["wrong_masks"] or report["bad_5xx"] else 0)


def asked_of_the_command_line(checkpoint: str) -> "tuple[list[bytes], list[np.ndarray]]":
    """Drawn pictures as PNG files, and the label maps that `deconvnet predict` gives them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch, "pictures"), Path(scratch, "out")
        folder.mkdir()
        for number, sample in enumerate(Scenes("test", count=4, size=128)):
            write_png(folder / f"{number}.png", sample.image)
        predict = [*COMMAND, "predict", checkpoint, str(folder), "--out", str(out)]
        subprocess.run([*predict, *ONE_THREAD], check=True)
        files = sorted(folder.iterdir())
        masks = [np.array(PIL.Image.open(out / f"{file.stem}.mask.png")) for file in files]
        return [file.read_bytes() for file in files], masks


def in_words(report: "dict[str, object]") -> "tuple[int, str]":
    """How many requests were made, and what came of them."""
    answers = report["answers"]
    counts = "; ".join(f"{name}: {count:,}" for name, count in answers.items())
    first, last = report["memory_mb"]["first"], report["memory_mb"]["last"]
    rise = report["memory_slope_mb_per_minute_after_first_quarter"]
    return sum(answers.values()), (
        f"{report['clients']} clients for {report['seconds'] / 60:g} minutes were answered "
        f"({counts}); {report['bad_5xx']} answers of 5xx other than 503 with Retry-After; "
        f"{report['masks_compared']:,} masks compared with the command line's, "
        f"{report['wrong_masks']} unequal; memory {first:g} MB at first, {last:g} MB at last, "
        f"{rise:+g} MB a minute after the first quarter"
    )


class Load:
    """Many clients, and what they were answered."""

    def __init__(
        self, address: str, pid: int, pictures: "list[bytes]", masks: "list[np.ndarray]"
    ) -> None:
        self.address, self.pid, self.pictures, self.masks = address, pid, pictures, masks
        self.statuses: collections.Counter[str] = collections.Counter()
        self.compared = self.wrong = self.bad = 0
        self.memory: list[tuple[float, float]] = []
        self.times: list[float] = []

    async def run(self, clients: int, seconds: float) -> dict[str, object]:
        """Ask for so long; gives the report."""
        self.until = time.monotonic() + seconds
        limits = httpx.Limits(  # the server drops a connection after 5 idle seconds, so sooner
            max_connections=None, max_keepalive_connections=clients, keepalive_expiry=2
        )
        async with httpx.AsyncClient(
            base_url=self.address, timeout=120, limits=limits
        ) as client:
            await asyncio.gather(
                self.watch(), *(self.visit(client, random.Random(n)) for n in range(clients))
            )
        since = [(when, size) for when, size in self.memory if when > 0.25 * seconds]
        slope = np.polyfit(*zip(*since, strict=True), 1)[0] if len(since) > 2 else float("nan")
        return {
            "clients": clients,
            "seconds": seconds,
            "answers": dict(sorted(self.statuses.items())),
            "bad_5xx": self.bad,
            "masks_compared": self.compared,
            "wrong_masks": self.wrong,
            "median_seconds_of_200": round(float(np.median(self.times)), 3),
            "memory_mb": {"first": self.memory[0][1], "last": self.memory[-1][1]},
            "memory_slope_mb_per_minute_after_first_quarter": round(60 * float(slope), 2),
        }

    async def watch(self) -> None:
        """Note the server's memory twice a second."""
        began = time.monotonic()
        while time.monotonic() < self.until:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
            kilobytes = int(re.findall(r"VmRSS:\s+(\d+)", status)[0])
            self.memory.append((time.monotonic() - began, round(kilobytes / 1000, 1)))
            await asyncio.sleep(0.5)

    async def visit(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        """Ask again and again, as one client does."""
        while time.monotonic() < self.until:
            number = chance.randrange(len(self.pictures))
            impatient = chance.random() < 0.05
            try:
                answer = await self.ask(client, chance, number, 0.05 if impatient else 120)
            except httpx.TimeoutException:
                self.statuses["went away"] += 1
                continue
            except httpx.TransportError as error:
                self.statuses[type(error).__name__] += 1
                continue
            self.statuses[str(answer.status_code)] += 1
            if answer.status_code >= 500:
                told = answer.status_code == 503 and "retry-after" in answer.headers
                self.bad += not told
                await asyncio.sleep(chance.random())

    async def ask(
        self, client: httpx.AsyncClient, chance: random.Random, number: int, patience: float
    ) -> httpx.Response:
        """One request."""
        kind = chance.random()
        if kind > 0.9:
            return await client.get("/", timeout=patience)
        if kind > 0.8:
            return await client.get("/api/models", timeout=patience)
        content = b"nonsense" if kind > 0.67 else self.pictures[number]
        began = time.monotonic()
        files = {"image": io.BytesIO(content)}
        answer = await client.post("/api/segment", files=files, timeout=patience)
        if answer.status_code == 200:
            self.times.append(time.monotonic() - began)
            mask = PIL.Image.open(io.BytesIO(base64.b64decode(answer.json()["mask_png"])))
            self.compared += 1
            self.wrong += not np.array_equal(np.array(mask), self.masks[number])
        return answer


if __name__ == "__main__":
    main()
