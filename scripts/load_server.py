"""Ask a server of ours by many clients at once, and report what it answered and what it cost.

    python scripts/load_server.py CHECKPOINT [--clients 64] [--seconds 60] [--json FILE]

Starts `deconvnet serve` on a free port. Each client asks again as soon as it has its answer:
two times in three for a segmentation, else for the networks, the page or nonsense; one in
twenty goes away before the answer. Every mask is compared with what the network gives without
a server.
Exits 1 if a mask was wrong, or a 5xx was anything but 503 with Retry-After.
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
import time
from pathlib import Path

import httpx
import numpy as np

from deconvnet.data.image_files import palette_picture
from deconvnet.data.scenes import Scenes
from deconvnet.predict import Predictor, load
from deconvnet.web.answers import picture_png, png


def main() -> None:
    """Start the server, ask it, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    command = [sys.executable, "-m", "deconvnet", "serve", asked.checkpoint, "--port", "0"]
    server = subprocess.Popen(
        [*command, "--threads", "1", "--device", "cpu", "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = server.stdout.readline() if server.stdout else ""
        address = re.search(r"http://[^ /]+", line)
        if address is None:
            sys.exit("the server did not start: " + line)
        load_ = Load(address.group(), server.pid, load(asked.checkpoint, device="cpu"))
        report = asyncio.run(load_.run(asked.clients, asked.seconds))
    finally:
        server.terminate()
        server.wait(60)
    print(json.dumps(report, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if report["wrong_masks"] or report["bad_5xx"] else 0)


class Load:
    """Many clients, and what they were answered."""

    def __init__(self, address: str, pid: int, predictor: Predictor) -> None:
        self.address, self.pid = address, pid
        self.statuses: collections.Counter[str] = collections.Counter()
        self.wrong = self.bad = 0
        self.memory: list[tuple[float, float]] = []
        self.times: list[float] = []
        images = [sample.image for sample in Scenes("test", count=4, size=128)]
        self.pictures = [picture_png(image) for image in images]
        segmented = [predictor(image) for image in images]
        self.masks = [png(palette_picture(one.label_map, one.classes)) for one in segmented]

    async def run(self, clients: int, seconds: float) -> dict[str, object]:
        """Ask for so long; gives the report."""
        self.until = time.monotonic() + seconds
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=clients)
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
            self.wrong += base64.b64decode(answer.json()["mask_png"]) != (self.masks[number])
        return answer


if __name__ == "__main__":
    main()
