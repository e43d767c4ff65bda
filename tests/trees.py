"""Small data sets drawn in the true layout of each format."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from deconvnet.data.image_files import write_mask, write_png
from deconvnet.data.scenes import SCENES, Scenes
from deconvnet.labels import CAMVID, VOC

SIZE = (40, 56)
"""Height and width of the pictures."""


class Tree(NamedTuple):
    format: str
    draw: Callable[[Path], None]
    num_classes: int
    instances: bool


def drawn_samples(count: int) -> list:
    return list(Scenes("train", count=count, size=SIZE, min_extent=0.3))


def write_jpeg(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(image).save(path, quality=95)


def write_grey(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(values).save(path)


def draw_folder(root: Path, count: int = 10) -> None:
    for index, sample in enumerate(drawn_samples(count)):
        write_jpeg(root / "images" / "set a" / f"{index}.v1.jpg", sample.image)
        write_mask(root / "labels" / "set a" / f"{index}.v1.png", sample.label_map, SCENES)
        write_grey(
            root / "instances" / "set a" / f"{index}.v1.png",
            sample.instance_map.astype(np.uint16),
        )
    (root / "classes.txt").write_text("\n".join(SCENES.names))


def draw_camvid(root: Path) -> None:
    for split in ("train", "val"):
        lines = []
        for index, sample in enumerate(drawn_samples(4)):
            labels = sample.label_map.copy()
            labels[:, :3] = 11
            write_png(root / split / f"{split}_{index}.png", sample.image)
            write_grey(root / f"{split}annot" / f"{split}_{index}.png", labels)
            lines.append(
                f"/SegNet/CamVid/{split}/{split}_{index}.png "
                f"/SegNet/CamVid/{split}annot/{split}_{index}.png"
            )
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")


def draw_voc(root: Path) -> None:
    names = [f"2007_{index:06d}" for index in range(8)]
    for name, sample in zip(names, drawn_samples(8), strict=True):
        labels = sample.label_map.copy()
        labels[:2] = 255
        instances = np.where(labels == 255, 255, sample.instance_map).astype(np.uint8)
        write_jpeg(root / "JPEGImages" / f"{name}.jpg", sample.image)
        write_mask(root / "SegmentationClass" / f"{name}.png", labels, VOC)
        write_mask(root / "SegmentationObject" / f"{name}.png", instances, VOC)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(names[:5]) + "\n")
    (lists / "val.txt").write_text("\n".join(names[5:]) + "\n")


def draw_isbi(root: Path) -> None:
    for number in range(6):
        cells = np.zeros((512, 512), np.uint8)
        cells[np.add.outer(np.arange(512), np.arange(512) + 9 * number) % 64 > 6] = 255
        write_grey(root / "images" / f"{number}.png", cells // 2 + 40)
        write_grey(root / "labels" / f"{number}.png", cells)


TREES = {
    "folder": Tree("folder", draw_folder, len(SCENES), True),
    "camvid": Tree("camvid", draw_camvid, len(CAMVID), False),
    "voc": Tree("voc", draw_voc, len(VOC), True),
    "isbi": Tree("isbi", draw_isbi, 2, False),
}
"""One for each reader."""
