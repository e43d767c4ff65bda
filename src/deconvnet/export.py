"""A trained network as a file that runs without this library: ONNX, OpenVINO, torch.export.

The file takes pictures as they are (RGB in 0 to 1, any size) and carries the names and colours
of the classes. It is compared with the network on pictures before it is given out.
"""

import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn

from deconvnet.checkpoint import (
    Checkpoint,
    Config,
    check_pictures,
    library_versions,
    load_checkpoint,
)
from deconvnet.data.image_files import read_image
from deconvnet.data.scenes import Scenes
from deconvnet.errors import (
    MissingExtraError,
    RecipeError,
    UserError,
    did_you_mean,
)
from deconvnet.export_formats import FORMATS, Format, as_corners
from deconvnet.files import refuse_unwritable_folder, write_text, written_whole
from deconvnet.labels import IGNORED
from deconvnet.layers import Switches, Unpooling
from deconvnet.predict import Predictor
from deconvnet.predict_files import find_pictures
from deconvnet.progress import say
from deconvnet.shapes import Image, UInt8
from deconvnet.standalone import Standalone

LEAST_AGREEMENT = 0.999
"""Share of the pixels whose class must be the network's; else the file is not given out."""

CHECKED_PICTURES = 16
"""At most so many pictures of a folder are compared, evenly spread."""

CHECKED_PIXELS = 500_000
"""Larger pictures are shrunk to so many pixels before they are compared."""

DRAWN_SIZES = ((256, 320), (193, 224), (131, 97), (33, 47), (9, 300))
"""(height, width) of the drawn pictures that are compared where none are given."""


@dataclass(frozen=True)
class Check:
    """How a file compares with the network that it was made from."""

    pictures: int
    agreement: float
    """Share of the pixels that get the same class, 0 to 1."""
    flipped: float | None
    """Share of the switches that differ, 0 to 1; none for a network without switches."""
    milliseconds: float
    """Median time of a picture."""
    network_milliseconds: float
    """The same for the network as it was trained, in torch."""

    def to_text(self) -> str:
        """One line."""
        switches = (
            ""
            if self.flipped is None
            else f"{1e6 * self.flipped:.1f} in a million switches differ, "
        )
        return (
            f"On {self.pictures} pictures {100 * self.agreement:.4f} % of the pixels get the "
            f"network's class, {switches}and a picture takes {self.milliseconds:.0f} ms "
            f"(the network in torch: {self.network_milliseconds:.0f} ms)."
        )


@dataclass(frozen=True)
class Exported:
    """What was written, and what it is worth."""

    path: Path
    engine: str
    """What runs it, and from which version on."""
    check: Check

    def to_text(self) -> str:
        """For people."""
        return (
            f"{self.path} runs in {self.engine}; {self.path.parent / 'use.py'} shows how.\n"
            + self.check.to_text()
        )


def export(
    checkpoint: str | Path,
    to: str,
    out: str | Path,
    *,
    check: str | Path | None = None,
    quiet: bool = False,
) -> Exported:
    """Write a network as a file that other programs run, and a script that shows how.

    Input `image` is float32 (N, C, H, W), RGB in 0 to 1, any N, H and W; output `logits` is
    (N, K, H, W). Standardisation and input_scale are inside.

    Args:
        checkpoint: A bundled name, a folder, or a Hub id.
        to: "onnx" (OUT/model.onnx), "openvino" (OUT/model.xml and .bin) or "torch"
            (OUT/model.pt2).
        out: The folder; made if it is missing.
        check: A picture or a folder of pictures to compare on; drawn ones if not given.
        quiet: Say nothing on the way.

    Raises:
        RecipeError: For another format.
        MissingExtraError: When the format's library is not installed.
        CheckpointError: If there is no such checkpoint or it is damaged.
        UserError: When fewer than LEAST_AGREEMENT of the pixels get the network's class;
            nothing is left behind then.
    """
    if to not in FORMATS:
        raise RecipeError(
            f"a network is not exported to '{to}'; give {', '.join(FORMATS)}."
            + did_you_mean(to, FORMATS)
        )
    kind, out = FORMATS[to], Path(out)
    _check_libraries(to, kind)
    refuse_unwritable_folder(out, "the exported network")
    images = _pictures_to_check(check)
    loaded = load_checkpoint(checkpoint)
    check_pictures(loaded.config, str(checkpoint))
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".export-") as folder:
        say(f"Writing {kind.files[0]} ...", quiet=quiet)
        standalone = Standalone(loaded.network, loaded.config).eval()
        kind.write(standalone, metadata(loaded.config), Path(folder))
        say(f"Comparing it with the network on {len(images)} pictures ...", quiet=quiet)
        found = compare(kind, Path(folder) / kind.files[0], loaded, images)
        if found.agreement < LEAST_AGREEMENT:
            raise UserError(
                f"{kind.files[0]} gives only {100 * found.agreement:.2f} % of the pixels the "
                f"network's class, and {100 * LEAST_AGREEMENT:g} % are needed; it was removed. "
                "Take another format, and report this network, please."
            )
        for name in reversed(kind.files):  # the one to open comes last
            with written_whole(out / name) as temporary:
                (Path(folder) / name).replace(temporary)
    write_text(out / "use.py", kind.use)
    return Exported(out / kind.files[0], kind.engine, found)


def metadata(config: Config) -> dict[str, str]:
    """What a file says of itself, by name; lists are JSON."""
    return {
        "model": config.model,
        "classes": json.dumps(config.classes.names),
        "colors": json.dumps(config.classes.colors),
        "background": json.dumps(config.classes.background),
        "ignored_label": str(IGNORED),
        "preprocessing": "none: RGB as float32 in 0 to 1, (N, C, H, W); standardisation "
        f"(mean {list(config.mean)}, std {list(config.std)}) and resizing by "
        f"{config.input_scale:g} are inside",
        "output": "logits (N, K, H, W) at the picture's size; the class is the argmax over K",
        "versions": json.dumps(library_versions()),
    }


def compare(kind: Format, path: Path, loaded: Checkpoint, images: Sequence[Image]) -> Check:
    """Run a file and the network it came from on the same pictures."""
    predictor = Predictor(loaded.network, loaded.config)
    run, run_inside = kind.open(path), kind.open_inside(path)
    agreeing = pixels = flipped = switches = 0
    seconds: dict[str, list[float]] = {"file": [], "network": []}
    for image in images:
        batch = as_batch(image)
        run(batch)  # some engines prepare for each new size
        start = time.perf_counter()
        logits = run(batch)[0]
        middle = time.perf_counter()
        expected = predictor.logits(image)
        seconds["file"].append(middle - start)
        seconds["network"].append(time.perf_counter() - middle)
        with noted_corners(loaded.network) as corners:
            predictor.logits(image)
        agreeing += int((logits[0].argmax(0) == expected.argmax(0)).sum())
        pixels += expected[0].numel()
        if corners:
            for ours, theirs in zip(run_inside(batch)[1:], corners, strict=True):
                flipped += int((ours != theirs).sum())
                switches += theirs.numel()
    return Check(
        len(images),
        agreeing / pixels,
        flipped / switches if switches else None,
        1e3 * statistics.median(seconds["file"]),
        1e3 * statistics.median(seconds["network"]),
    )


def as_batch(image: Image) -> Tensor:
    """A picture as an exported network takes it."""
    return torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)


@contextmanager
def noted_corners(network: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, collect the switches that unpoolings of a network are given."""
    corners: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, Switches]) -> None:
        corners.append(as_corners(given[1].positions, given[1].size[1]))

    hooks = [
        module.register_forward_pre_hook(note)
        for module in network.modules()
        if isinstance(module, Unpooling) and module.kind == "switches"
    ]
    try:
        yield corners
    finally:
        for hook in hooks:
            hook.remove()


def _check_libraries(to: str, kind: Format) -> None:
    if not all(importlib.util.find_spec(library) for library in kind.libraries):
        raise MissingExtraError(f"exporting to '{to}'", kind.extra)


def _pictures_to_check(check: str | Path | None) -> list[Image]:
    if check is None:
        return [Scenes("test", count=9, size=512)[index].image[:height, :width]
                for index, (height, width) in enumerate(DRAWN_SIZES)]  # fmt: skip
    files = find_pictures([check])
    step = -(-len(files) // CHECKED_PICTURES)
    return [_shrunk_to(read_image(file.path), CHECKED_PIXELS) for file in files[::step]]


def _shrunk_to(image: Image, pixels: int) -> UInt8[np.ndarray, "shrunk_h shrunk_w 3"]:
    height, width = image.shape[:2]
    factor = (pixels / (height * width)) ** 0.5
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.array(PIL.Image.fromarray(image).resize(size))
