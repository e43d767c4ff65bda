"""Small data sets drawn in the true layout of each format."""

import base64
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
from scipy.io import savemat

from deconvnet.data.image_files import write_mask, write_png
from deconvnet.data.sample import Sample
from deconvnet.data.scenes import SCENES, Scenes
from deconvnet.labels import CAMVID, VOC

SIZE = (40, 56)
"""Height and width of the pictures."""


class Tree(NamedTuple):
    format: str
    draw: Callable[[Path], None]
    num_classes: int
    instances: bool


@cache
def drawn_samples(count: int) -> list[Sample]:
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


def draw_camvid32(root: Path) -> None:
    table = {"Animal": (64, 128, 64), "Sky": (128, 128, 128), "Void": (0, 0, 0)}
    colors = np.array(list(table.values()), np.uint8)
    (root / "label_colors.txt").parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{r} {g} {b}\t\t{name}" for name, (r, g, b) in table.items()]
    (root / "label_colors.txt").write_text("\n".join(lines) + "\n")
    films = ["0001TP_006690", "0001TP_006720", "0006R0_f00930", "Seq05VD_f00000"]
    for film, sample in zip(films, drawn_samples(4), strict=True):
        write_png(root / "701_StillsRaw_full" / f"{film}.png", sample.image)
        labels = np.minimum(sample.label_map, 2)
        labels[:3] = 1
        write_png(root / "LabeledApproved_full" / f"{film}_L.png", colors[labels])


def draw_camvid32_split(root: Path) -> None:
    draw_camvid32(root / "once")
    table = (root / "once" / "label_colors.txt").read_text().split()
    rows = [f"{table[i + 3]},{','.join(table[i : i + 3])}" for i in range(0, len(table), 4)]
    (root / "class_dict.csv").write_text("name,r,g,b\n" + "\n".join(rows) + "\n")
    for split, films in (("train", "0*"), ("val", "Seq*")):
        for kind, folder in (("701_StillsRaw_full", ""), ("LabeledApproved_full", "_labels")):
            place = root / f"{split}{folder}"
            place.mkdir()
            for path in (root / "once" / kind).glob(films):
                path.rename(place / path.name)


def draw_camvid_of_cvat(root: Path) -> None:
    colors = np.array(SCENES.colors, np.uint8)
    lines = []
    for index, sample in enumerate(drawn_samples(6)):
        name = f"set {index % 2}/{index}.png"
        write_png(root / "default" / name, sample.image)
        write_png(root / "defaultannot" / name, colors[sample.label_map])
        lines.append(f"/default/{name} /defaultannot/{name}")
    write_png(root / "default" / "not labelled.png", drawn_samples(1)[0].image)
    lines.append("/default/not labelled.png ")
    (root / "default.txt").write_text("\n".join(lines) + "\n")
    table = [
        f"{red} {green} {blue} {name}"
        for name, (red, green, blue) in zip(SCENES.names, SCENES.colors, strict=True)
    ]
    (root / "label_colors.txt").write_text("\n".join(table) + "\n")


def draw_voc_of_cvat(root: Path) -> None:
    colors = np.array(SCENES.colors, np.uint8)
    names = [f"photo {index}" for index in range(6)]
    for name, sample in zip(names, drawn_samples(6), strict=True):
        write_png(root / "JPEGImages" / f"{name}.png", sample.image)
        write_png(root / "SegmentationClass" / f"{name}.png", colors[sample.label_map])
        numbers = np.zeros((*sample.label_map.shape, 3), np.uint8)
        numbers[:, :, 0] = sample.instance_map
        write_png(root / "SegmentationObject" / f"{name}.png", numbers)
    write_png(root / "JPEGImages" / "not labelled.png", drawn_samples(1)[0].image)
    names.append("not labelled")  # CVAT lists it and writes no mask
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "default.txt").write_text("\n".join(names) + "\n")
    rows = ["# label:color_rgb:parts:actions"]
    rows += [
        f"{name}:{red},{green},{blue}::"
        for name, (red, green, blue) in zip(SCENES.names, SCENES.colors, strict=True)
    ]
    (root / "labelmap.txt").write_text("\n".join(rows) + "\n")


def draw_cityscapes(root: Path) -> None:
    for split, city in (("train", "aachen"), ("val", "lindau")):
        for index, sample in enumerate(drawn_samples(3)):
            name = f"{city}_{index:06d}_000019"
            labels = np.array([0, 7, 8, 11, 24, 26, 33, 4], np.uint8)[sample.label_map]
            thing = (labels == 24) | (labels == 26)
            instances = np.where(
                thing, labels.astype(np.int32) * 1000 + sample.instance_map, labels
            )
            write_png(
                root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", sample.image
            )
            place = root / "gtFine" / split / city
            write_grey(place / f"{name}_gtFine_labelIds.png", labels)
            write_grey(place / f"{name}_gtFine_instanceIds.png", instances.astype(np.uint16))


def draw_cityscapes_of_cvat(root: Path) -> None:
    """Its numbers are the lines of the list, of which one is void here, between the others."""
    numbers = np.array([0, *range(2, len(SCENES) + 1)], np.uint8)
    for index, sample in enumerate(drawn_samples(6)):
        labels = numbers[sample.label_map]
        objects = np.where(
            labels > 0, labels.astype(np.int32) * 1000 + sample.instance_map, labels
        )
        pictures, masks = root / "imgsFine" / "leftImg8bit", root / "gtFine"
        write_jpeg(pictures / "default" / "a town" / f"{index}_leftImg8bit.jpg", sample.image)
        place = masks / "default" / "a town"
        colors = np.array([(0, 0, 0), (9, 9, 9), *SCENES.colors[1:]], np.uint8)
        write_png(place / f"{index}_gtFine_color.png", colors[labels])
        write_grey(place / f"{index}_gtFine_labelIds.png", labels)
        write_grey(place / f"{index}_gtFine_instanceIds.png", objects.astype(np.uint16))
    write_jpeg(pictures / "default" / "not labelled_leftImg8bit.jpg", sample.image)
    rows = ["0 0 0 background", "9 9 9 void"]
    rows += [
        f"{red} {green} {blue} {name}"
        for name, (red, green, blue) in list(zip(SCENES.names, SCENES.colors, strict=True))[1:]
    ]
    (root / "label_colors.txt").write_text("\n".join(rows) + "\n")


def draw_label_studio(root: Path) -> None:
    """Brush labels to PNG, unpacked, with JSON-MIN and the pictures as they were uploaded."""
    tasks = []
    for number, sample in enumerate(drawn_samples(6), 11):
        write_jpeg(root / "images" / f"photo {number}.jpg", sample.image)
        counts: dict[str, int] = {}
        for instance in np.unique(sample.instance_map[sample.instance_map > 0]).tolist():
            inside = sample.instance_map == instance
            label = SCENES.names[sample.label_map[inside][0]].title()
            count = counts[label] = counts.get(label, -1) + 1
            for annotation, mask in ((number, ~inside), (number + 50, inside)):  # done twice
                name = f"task-{number}-annotation-{annotation}-by-3-the-brush-{label}-{count}"
                write_grey(root / f"{name}.png", mask.astype(np.uint8) * 255)
        brush = [{"format": "rle", "rle": [0], "brushlabels": ["Ball"]}]
        image = f"/data/upload/1/{number:08x}-photo%20{number}.jpg"
        tasks.append({"id": number, "image": image, "annotation_id": 9, "the-brush": brush})
    tasks.append({"id": 99, "image": "/data/upload/1/later.jpg", "annotation_id": None})
    write_json(root / "project-1-at-2026-01-02.json", tasks)
    (root / "labels.txt").write_text("\n".join(SCENES.names[1:]))


def draw_sbd(root: Path) -> None:
    place = root / "benchmark_RELEASE" / "dataset"
    names = [f"2008_{index:06d}" for index in range(6)]
    for name, sample in zip(names, drawn_samples(6), strict=True):
        write_jpeg(place / "img" / f"{name}.jpg", sample.image)
        write_mat(place / "cls" / f"{name}.mat", "GTcls", sample.label_map)
        write_mat(place / "inst" / f"{name}.mat", "GTinst", sample.instance_map)
    (place / "train.txt").write_text("\n".join(names[:4]) + "\n")
    (place / "train_noval.txt").write_text("\n".join(names[:2]) + "\n")
    (place / "val.txt").write_text("\n".join(names[4:]) + "\n")


def write_mat(path: Path, key: str, values: np.ndarray) -> None:
    """As SBD's files are: a structure of one by one with the map inside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {key: {"Segmentation": values.astype(np.uint8), "Boundaries": np.zeros(2)}})


def coco_content(names: list[str], samples: list, *, first_id: int = 1) -> dict:
    """COCO's JSON of drawn pictures: polygons of rectangles, run lengths of the rest."""
    images, annotations = [], []
    for number, (name, sample) in enumerate(zip(names, samples, strict=True), first_id):
        height, width = sample.label_map.shape
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for instance in np.unique(sample.instance_map[sample.instance_map > 0]).tolist():
            mask = sample.instance_map == instance
            column_major = mask.T.ravel().astype(np.int8)
            changes = np.flatnonzero(np.diff(column_major, prepend=0))
            counts = np.diff([0, *changes.tolist(), column_major.size]).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 10 * int(sample.label_map[mask][0]),
                    "segmentation": {"size": [height, width], "counts": counts},
                    "area": int(mask.sum()),
                    "bbox": [0, 0, 1, 1],
                    "iscrowd": 0,
                }
            )
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": 10,
                "segmentation": [[1, 1, 9, 1, 9, 7, 1, 7]],
                "area": 48,
                "iscrowd": 0,
            }
        )
    categories = [
        {"id": 10 * label, "name": name, "supercategory": "drawn"}
        for label, name in enumerate(SCENES.names)
        if label
    ]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def draw_coco(root: Path) -> None:
    for split, samples in (("train", drawn_samples(5)[:3]), ("val", drawn_samples(5)[3:])):
        names = [f"{split}{index:012d}.jpg" for index in range(len(samples))]
        for name, sample in zip(names, samples, strict=True):
            write_jpeg(root / "images" / f"{split}2017" / name, sample.image)
        place = root / "annotations"
        write_json(place / f"instances_{split}2017.json", coco_content(names, samples))
        write_json(place / f"captions_{split}2017.json", {"images": [], "annotations": []})


def draw_coco_of_cvat(root: Path) -> None:
    samples = drawn_samples(6)
    names = [f"set a/{index}.jpg" for index in range(6)]
    for name, sample in zip(names, samples, strict=True):
        write_jpeg(root / "images" / "default" / name, sample.image)
    content = coco_content(names, samples)
    write_json(root / "annotations" / "instances_default.json", content)


def draw_coco_of_label_studio(root: Path) -> None:
    samples = drawn_samples(6)
    names = [f"{index}-a1b2.jpg" for index in range(6)]
    for name, sample in zip(names, samples, strict=True):
        write_jpeg(root / "images" / name, sample.image)
    content = coco_content([f"images\\{name}" for name in names], samples, first_id=0)
    write_json(root / "result.json", content)


def draw_coco_of_roboflow(root: Path) -> None:
    samples = drawn_samples(6)
    for split, part in (("train", samples[:4]), ("valid", samples[4:])):
        names = [f"{split}_{index}_jpg.rf.1f2e.jpg" for index in range(len(part))]
        for name, sample in zip(names, part, strict=True):
            write_jpeg(root / split / name, sample.image)
        write_json(root / split / "_annotations.coco.json", coco_content(names, part))


def labelme_content(image: str, shapes: list[dict]) -> dict:
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": SIZE[0],
        "imageWidth": SIZE[1],
    }


def labelme_shapes(index: int) -> list[dict]:
    """One of each kind of shape, at a place that differs with the picture."""
    x = float(index)
    stamp = io.BytesIO()
    PIL.Image.fromarray(np.eye(6, dtype=bool)).save(stamp, format="PNG")
    kinds = {
        "polygon": ("Leaf", [[2 + x, 2], [20 + x, 3.5], [11, 20]]),
        "rectangle": ("pot", [[30, 30], [22 + x, 25]]),
        "circle": ("Leaf", [[40, 12], [40, 19 + x / 4]]),
        "line": ("stem", [[2, 38], [30, 22]]),
        "linestrip": ("stem", [[50, 2], [50, 20], [54, 30]]),
        "point": ("bug", [[45, 35]]),
        "mask": ("bug", [[5, 25], [10, 30]]),
    }
    shapes = [
        {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}
        for kind, (label, points) in kinds.items()
    ]
    shapes[-1]["mask"] = base64.b64encode(stamp.getvalue()).decode()
    ignored = [[48, 34], [55, 39]]
    return [*shapes, {"label": "__ignore__", "points": ignored, "shape_type": "rectangle"}]


def draw_labelme(root: Path) -> None:
    for index, sample in enumerate(drawn_samples(8)):
        place = root / f"day {index % 2}"
        write_jpeg(place / f"{index}.jpg", sample.image)
        content = labelme_content(f"{index}.jpg", labelme_shapes(index))
        write_json(place / f"{index}.json", content)


def draw_labelme_beside(root: Path) -> None:
    for index, sample in enumerate(drawn_samples(6)):
        split = "train" if index < 4 else "val"
        write_png(root / "images" / split / f"{index}.png", sample.image)
        content = labelme_content(f"..\\..\\images\\{index}.png", labelme_shapes(index))
        write_json(root / "annotations" / split / f"{index}.json", content)
    names = ["__ignore__", "_background_", "stem", "leaf", "pot", "bug", "flower"]
    (root / "labels.txt").write_text("\n".join(names))


def write_stack(path: Path, slices: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = [PIL.Image.fromarray(values) for values in slices]
    first.save(path, save_all=True, append_images=others)


def draw_stack(root: Path) -> None:
    grid = np.add.outer(np.arange(48), np.arange(40))
    cells = [np.where((grid + 9 * n) % 16 > 3, 255, 0).astype(np.uint8) for n in range(7)]
    write_stack(root / "train-volume.tif", [values // 2 + 40 for values in cells])
    write_stack(root / "train-labels.tif", cells)


def draw_stack_of_classes(root: Path) -> None:
    samples = drawn_samples(6)
    write_stack(root / "images.tiff", [sample.image for sample in samples])
    write_stack(root / "masks.tiff", [sample.label_map for sample in samples])
    (root / "classes.txt").write_text("\n".join(SCENES.names))


def draw_rgb_folder(root: Path) -> None:
    colors = np.array(SCENES.colors, np.uint8)
    for index, sample in enumerate(drawn_samples(8)):
        split = "train" if index < 5 else "val"
        write_jpeg(root / "images" / split / f"{index}.jpg", sample.image)
        write_png(root / "masks" / split / f"{index}.png", colors[sample.label_map])
    rows = [
        f"{name},{red},{green},{blue}"
        for name, (red, green, blue) in zip(SCENES.names, SCENES.colors, strict=True)
    ]
    (root / "classes.csv").write_text("name,r,g,b\n" + "\n".join(rows) + "\n")


TREES = {
    "folder": Tree("folder", draw_folder, len(SCENES), True),
    "folder, RGB": Tree("folder", draw_rgb_folder, len(SCENES), False),
    "camvid": Tree("camvid", draw_camvid, len(CAMVID), False),
    "camvid of CVAT": Tree("camvid", draw_camvid_of_cvat, len(SCENES), False),
    "camvid32": Tree("camvid32", draw_camvid32, 2, False),
    "camvid32, split": Tree("camvid32", draw_camvid32_split, 2, False),
    "cityscapes": Tree("cityscapes", draw_cityscapes, 19, True),
    "cityscapes of CVAT": Tree("cityscapes", draw_cityscapes_of_cvat, len(SCENES), True),
    "voc": Tree("voc", draw_voc, len(VOC), True),
    "masks of CVAT": Tree("voc", draw_voc_of_cvat, len(SCENES), True),
    "sbd": Tree("sbd", draw_sbd, len(VOC), True),
    "coco": Tree("coco", draw_coco, len(SCENES), True),
    "coco of CVAT": Tree("coco", draw_coco_of_cvat, len(SCENES), True),
    "coco of Label Studio": Tree("coco", draw_coco_of_label_studio, len(SCENES), True),
    "coco of Roboflow": Tree("coco", draw_coco_of_roboflow, len(SCENES), True),
    "labelme": Tree("labelme", draw_labelme, 5, True),
    "labelme, apart": Tree("labelme", draw_labelme_beside, 6, True),
    "brush of Label Studio": Tree("label-studio", draw_label_studio, len(SCENES), True),
    "stack": Tree("stack", draw_stack, 2, False),
    "stack of classes": Tree("stack", draw_stack_of_classes, len(SCENES), False),
    "isbi": Tree("isbi", draw_isbi, 2, False),
}
"""One or more for each reader."""
