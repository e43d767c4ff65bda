"""Write drawn pictures into a folder, as a data set whose pictures are drawn once.

    python scripts/draw_scenes.py scenes-by-size "scenes:size=512,kinds=ball+leaf"

Drawing a picture of 512 pixels takes a tenth of a second, more than a small network's pass over
it; a training run in two stages would draw each one hundreds of times. The folder holds only
the classes that can occur, so that a mean over classes has no empty ones.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import PIL.Image

from deconvnet.data.image_files import write_mask, write_png
from deconvnet.data.scenes import Scenes, open_scenes
from deconvnet.files import write_text, written_whole
from deconvnet.labels import Classes
from deconvnet.progress import tracked


def main() -> None:
    """Read the command line and write the splits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the data set")
    parser.add_argument("scenes", help="such as scenes:size=512,kinds=ball+leaf")
    parser.add_argument("--train", type=int, default=300, help="pictures of train (300)")
    parser.add_argument("--val", type=int, default=40, help="pictures of val (40)")
    asked = parser.parse_args()
    for split, count in (("train", asked.train), ("val", asked.val)):
        drawn = open_scenes(asked.scenes, split)
        write_split(dataclasses.replace(drawn, count=count), asked.out)


def write_split(scenes: Scenes, out: Path) -> None:
    """Write images/, labels/ and instances/ of one split, and the class file."""
    names = scenes.classes.names
    kinds = scenes.kinds.split("+") if scenes.kinds else names[1:]
    numbers = [0, *sorted(names.index(kind) for kind in kinds)]
    classes = Classes.named(
        [names[number] for number in numbers],
        [scenes.classes.colors[number] for number in numbers],
        background=0,
    )
    renumbered = np.zeros(256, np.uint8)
    renumbered[numbers] = np.arange(len(numbers))
    folders = [out / kind / scenes.split for kind in ("images", "labels", "instances")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    write_text(out / "classes.txt", "".join(f"{name}\n" for name in classes.names))
    for index in tracked(range(len(scenes)), f"draw {scenes.split}", len(scenes)):
        sample = scenes[index]
        images, labels, instances = (folder / f"{index:05d}.png" for folder in folders)
        write_png(images, sample.image)
        write_mask(labels, renumbered[sample.label_map], classes)
        with written_whole(instances) as temporary:
            objects = PIL.Image.fromarray(sample.instance_map.astype(np.uint8))
            objects.save(temporary, format="PNG")


if __name__ == "__main__":
    main()
