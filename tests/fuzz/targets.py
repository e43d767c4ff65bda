"""What is read: for each reader, how a hostile file is made and how it is read."""

import contextlib
import io
import json
import pickle
import random
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import torch
from scipy.io import savemat

from deconvnet.archives import unpack
from deconvnet.caffe import CaffeLayer, read_caffemodel, write_caffemodel
from deconvnet.caffe_networks import network_from_caffe
from deconvnet.checkpoint import load_checkpoint, load_state, read_weights, save_checkpoint
from deconvnet.convert import vgg16_from_caffe
from deconvnet.data import open_dataset
from deconvnet.data.class_files import CLASS_FILES, read_classes
from deconvnet.data.image_files import count_pages, image_size, read_image
from deconvnet.data.mask_files import MaskCoding, read_instances, read_mask
from deconvnet.errors import UserError
from deconvnet.labels import VOC
from deconvnet.predict_journal import Journal
from deconvnet.recipe import Recipe
from fuzz.damage import (
    LINES,
    VALUES,
    damaged,
    damaged_json,
    damaged_lines,
    damaged_png,
    damaged_safetensors,
    damaged_zip,
)
from small_networks import predictor
from trees import (
    coco_content,
    draw_camvid_of_cvat,
    draw_coco_of_cvat,
    draw_labelme,
    draw_sbd,
    draw_voc,
    drawn_samples,
    labelme_content,
    labelme_shapes,
)


class Target(NamedTuple):
    """A reader under fire."""

    make: Callable[[random.Random], bytes]
    """A hostile file."""
    read: Callable[[Path, bytes], object]
    """Reads it, in a folder that is kept from one input to the next."""
    share: int
    """How many of a hundred inputs are for it."""


# Pictures and masks


def saved(picture: PIL.Image.Image | np.ndarray, kind: str, **settings) -> bytes:
    if isinstance(picture, np.ndarray):
        picture = PIL.Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


@cache
def pictures() -> dict[str, bytes]:
    """Valid files of every kind and mode, and some that are valid and mean."""
    image = drawn_samples(1)[0].image
    small = PIL.Image.fromarray(image)
    grey = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    frames = [PIL.Image.new("P", (20 + i, 16), i) for i in range(5)]
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    several = {"save_all": True, "append_images": frames[1:]}
    long, line = PIL.Image.new("RGB", (30_000, 1), "red"), PIL.Image.new("L", (1, 30_000))
    return {
        "png": saved(image, "PNG"),
        "png L": saved(small.convert("L"), "PNG"),
        "png LA": saved(small.convert("LA"), "PNG"),
        "png RGBA": saved(small.convert("RGBA"), "PNG"),
        "png P": saved(small.convert("P"), "PNG", transparency=3),
        "png 1": saved(small.convert("1"), "PNG"),
        "png 16": saved(grey, "PNG"),
        "png 1 x 1": saved(PIL.Image.new("RGB", (1, 1)), "PNG"),
        "png 30000 x 1": saved(long, "PNG"),
        "png 1 x 30000": saved(line, "PNG"),
        "png animated": saved(frames[0], "PNG", **several),
        "png bomb": saved(PIL.Image.new("1", (12_000, 12_000)), "PNG"),
        "jpeg": saved(image, "JPEG", exif=exif),
        "jpeg L": saved(small.convert("L"), "JPEG"),
        "jpeg CMYK": saved(small.convert("CMYK"), "JPEG"),
        "jpeg progressive": saved(image, "JPEG", progressive=True, optimize=True),
        "jpeg bomb": saved(PIL.Image.new("L", (9_000, 9_000)), "JPEG"),
        "tiff": saved(image, "TIFF"),
        "tiff lzw": saved(image, "TIFF", compression="tiff_lzw"),
        "tiff deflate": saved(grey, "TIFF", compression="tiff_adobe_deflate"),
        "tiff jpeg": saved(image, "TIFF", compression="jpeg"),
        "tiff fax": saved(small.convert("1"), "TIFF", compression="group4"),
        "tiff float": saved(grey.astype(np.float32) / 65535, "TIFF"),
        "tiff CMYK": saved(small.convert("CMYK"), "TIFF"),
        "tiff stack": saved(frames[0], "TIFF", **several),
        "tiff bomb": saved(PIL.Image.new("1", (12_000, 12_000)), "TIFF", compression="group4"),
        "gif": saved(small.convert("P"), "GIF"),
        "gif animated": saved(frames[0], "GIF", **several, duration=20, disposal=2),
        "webp": saved(image, "WEBP"),
        "webp lossless": saved(small.convert("RGBA"), "WEBP", lossless=True),
        "webp animated": saved(small, "WEBP", save_all=True, append_images=[small] * 3),
        "bmp": saved(image, "BMP"),
        "bmp P": saved(small.convert("P"), "BMP"),
        "ppm": saved(image, "PPM"),
        "pgm text": b"P2\n# a comment\n3 2\n255\n0 1 2\n3 4 5\n",
    } | {  # what Pillow reads beside the promised formats, some with programs of its own
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "ico": saved(small.resize((16, 16)), "ICO"),
        "tga": saved(image, "TGA"),
        "jpeg 2000": saved(image, "JPEG2000"),
        "xbm": b"#define a_width 9\n#define a_height 9\nstatic char a_bits[] = {0};\n",
    }  # fmt: skip


def make_picture(choose: random.Random) -> bytes:
    name = choose.choice(list(pictures()))
    content = pictures()[name]
    if name.endswith("bomb") and choose.random() < 0.8:
        return content
    if name.startswith("png") and choose.random() < 0.5:
        return damaged_png(choose, content)
    return damaged(choose, content)


def read_picture(_folder: Path, content: bytes) -> None:
    outcomes = []
    for read in (read_image, image_size, lambda file: read_image(file, page=1), count_pages):
        try:
            outcomes.append(read(content))
        except UserError as error:
            outcomes.append(error)
    image, size = outcomes[:2]
    if isinstance(image, np.ndarray):
        assert image.dtype == np.uint8
        assert image.shape == (*size, 3)


@cache
def masks() -> list[bytes]:
    labels = drawn_samples(1)[0].label_map
    palette = PIL.Image.fromarray(labels).convert("L")
    palette.putpalette(VOC.palette())
    colors = np.array(VOC.colors, np.uint8)[labels]
    return [
        saved(labels, "PNG"),
        saved(palette, "PNG"),
        saved(colors, "PNG"),
        saved(labels.astype(np.uint16) * 300, "PNG"),
        saved(labels > 0, "PNG"),
        saved(palette, "GIF"),
        saved(labels, "TIFF", compression="tiff_lzw"),
        saved(labels, "BMP"),
        saved(labels, "JPEG"),
        saved(np.where(labels, 255, 0).astype(np.uint8), "PNG"),
        saved(labels.astype(np.float32), "TIFF"),
        saved(labels.astype(np.int32) * -70_000, "TIFF"),
    ]


def make_mask(choose: random.Random) -> bytes:
    content = choose.choice(masks())
    if content.startswith(b"\x89PNG") and choose.random() < 0.5:
        return damaged_png(choose, content)
    return damaged(choose, content)


def _read_as_mask(folder: Path, content: bytes, name: str) -> None:
    (folder / name).write_bytes(content)
    for coding in (MaskCoding(len(VOC), colors=VOC.colors), MaskCoding(2, values=(0, 255))):
        try:
            labels = read_mask(folder / name, coding)
            assert set(np.unique(labels).tolist()) <= {*range(coding.num_classes), 255}
        except UserError:
            pass
    numbers = read_instances(folder / name)
    assert numbers.dtype == np.int32
    assert numbers.min(initial=0) >= 0


@cache
def _matlab() -> list[bytes]:
    files = []
    for packed in (True, False):
        for key, dtype in (("GTcls", np.uint8), ("GTinst", np.uint16)):
            file = io.BytesIO()
            labels = drawn_samples(1)[0].label_map.astype(dtype)
            content = {key: {"Segmentation": labels, "Boundaries": np.zeros(2)}}
            savemat(file, content, do_compression=packed)
            files.append(file.getvalue())
    file = io.BytesIO()
    savemat(file, {"GTcls": np.eye(3)}, format="4")
    return [*files, file.getvalue()]


# Words and numbers


_RECIPE = """# a comment
model: unet
width: 0.0625
data: scenes:size=48,count=4
scale_range: [0.5, 2]
learning_rate: 1e-3
clip: none
steps: 12
schedule: cosine
batch_norm: true
"""


def make_recipe(choose: random.Random) -> bytes:
    text = _RECIPE
    if choose.random() < 0.4:
        names = list(Recipe().to_dict())
        settings = {choose.choice(names): choose.choice(VALUES) for _ in range(3)}
        return json.dumps(settings).encode()
    if choose.random() < 0.01:
        return choose.choice((b"[" * 9000, b"{a: " * 3000, b"- " * 9000, _laughs()))
    return damaged_lines(choose, text)


def _laughs() -> bytes:
    """Anchors that name one another: nine lines that stand for a thousand million words."""
    lines = ["a0: &a0 [lol]"]
    lines += [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]" for i in range(9)]
    return "\n".join(lines).encode()


def read_recipe(folder: Path, content: bytes) -> None:
    (folder / "recipe.yaml").write_bytes(content)
    recipe = Recipe.from_file(folder / "recipe.yaml")
    assert repr(Recipe.from_mapping(recipe.to_dict())) == repr(recipe)
    if recipe.data.startswith("scenes"):
        open_dataset(recipe.data)


_TABLES = {
    "classes.txt": "background 0 0 0\ncat 128 0 0\ndog 0 128 0\nignored 224 224 192\n",
    "classes.json": '["background", {"name": "cat"}, "dog"]',
    "classes.csv": "name,r,g,b\nbackground,0,0,0\ncat,128,0,0\n",
    "class_dict.csv": 'name,r,g,b\n"back,ground",0,0,0\ncat,128,0,0\n',
    "label_colors.txt": "64 128 64\tAnimal\n192 0 128 Archway\n0 0 0 Void\n",
    "labelmap.txt": "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\n",
}


def make_table(choose: random.Random) -> bytes:
    name = choose.choice(list(CLASS_FILES))
    if name.endswith("json"):
        tree = [{"name": "background", "color": [0, 0, 0]}, {"name": "cat", "color": [9, 0, 0]}]
        content = damaged_json(choose, choose.choice((tree, ["a", "b", "c"])))
    else:
        content = damaged_lines(choose, _TABLES[name])
    return name.encode() + b"\n" + content


def read_table(folder: Path, content: bytes) -> None:
    name, _, body = content.partition(b"\n")
    place = folder / name.decode()
    place.mkdir(exist_ok=True)
    (place / name.decode()).write_bytes(body)
    table = read_classes(place)
    assert table is not None
    assert len(table.classes.palette()) == 768
    table.coding().label_of_value()


# Data sets


def _first_of(dataset) -> None:
    for split_index in range(min(len(dataset), 2)):
        sample = dataset[split_index]
        assert sample.label_map.shape == sample.image.shape[:2]


def make_coco(choose: random.Random) -> bytes:
    return damaged_json(choose, _coco())


@cache
def _coco() -> dict:
    return coco_content([f"set a/{index}.jpg" for index in range(2)], drawn_samples(2))


def _drawn(folder: Path, draw: Callable[[Path], None]) -> Path:
    place = folder / draw.__name__
    if not place.is_dir():
        draw(place)
    return place


def read_coco(folder: Path, content: bytes) -> None:
    place = _drawn(folder, draw_coco_of_cvat)
    (place / "annotations" / "instances_default.json").write_bytes(content)
    _first_of(open_dataset(place, format="coco"))


def make_labelme(choose: random.Random) -> bytes:
    return damaged_json(choose, labelme_content("0.jpg", labelme_shapes(0)))


def read_labelme(folder: Path, content: bytes) -> None:
    place = _drawn(folder, _draw_one_labelme)
    (place / "1.json").write_bytes(content)
    _first_of(open_dataset(place, format="labelme"))


def _draw_one_labelme(root: Path) -> None:
    draw_labelme(root)
    for path in [*root.rglob("*.jpg"), *root.rglob("*.json")]:
        path.rename(root / path.name)
    for index in range(2, 8):
        (root / f"{index}.json").unlink()


_LISTS = {
    "voc": (draw_voc, "", "ImageSets/Segmentation/train.txt"),
    "camvid": (draw_camvid_of_cvat, "", "train.txt"),
    "sbd": (draw_sbd, "benchmark_RELEASE/dataset", "train.txt"),
    "folder": (draw_voc, "", "default.txt"),
}


def make_list(choose: random.Random) -> bytes:
    kind = choose.choice(list(_LISTS))
    text = {
        "voc": "2007_000000\n2007_000001\n2007_000002",
        "camvid": "/default/0.png /defaultannot/0.png\n/default/1.png /defaultannot/1.png",
        "sbd": "2008_000000\n2008_000001",
        "folder": "2007_000000\n2007_000001",
    }[kind]
    return kind.encode() + b"\n" + damaged_lines(choose, text)


def read_list(folder: Path, content: bytes) -> None:
    kind, _, body = content.partition(b"\n")
    draw, below, name = _LISTS[kind.decode()]
    place = _drawn(folder, draw)
    if kind == b"folder":
        place = _drawn(folder, _draw_folder)
        name = "train.txt"
    (place / below / name).write_bytes(body)
    _first_of(open_dataset(place, format=kind.decode()))


def draw_list_folders(folder: Path) -> Path:
    """A plain folder of pictures and masks."""
    return _drawn(folder, _draw_folder)


def _draw_folder(root: Path) -> None:
    draw_voc(root)
    (root / "JPEGImages").rename(root / "images")
    (root / "SegmentationClass").rename(root / "labels")


def make_scenes(choose: random.Random) -> bytes:
    parts = (
        "scenes:size=48 count=4 seed=1 min_extent=0.1 max_objects=3 kinds=ball color_hint=1"
    ).split()
    at = choose.randrange(len(parts))
    value = choose.choice((*map(str, VALUES), *LINES, "1x1", "16x8192", "1e3", "nan", "inf"))
    parts[at] = choose.choice((parts[at].partition("=")[0] + "=" + value, value, ""))
    return ",".join(parts).encode("utf-8", "surrogatepass")


def read_scenes(_folder: Path, content: bytes) -> None:
    dataset = open_dataset(content.decode("utf-8", "surrogateescape"))
    if max(dataset.shape) <= 64:
        _first_of(dataset)


# Weights


@cache
def checkpoint_files() -> tuple[bytes, bytes]:
    """config.json and model.safetensors of a tiny network."""
    network = predictor("unet", width=1 / 64)
    with tempfile.TemporaryDirectory() as scratch:
        folder = save_checkpoint(scratch, network.network, network.config)
        files = ("config.json", "model.safetensors")
        config, weights = ((folder / name).read_bytes() for name in files)
    return config, weights


def make_config(choose: random.Random) -> bytes:
    return damaged_json(choose, json.loads(checkpoint_files()[0]))


def read_config(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    if not (folder / "model.safetensors").is_file():
        (folder / "model.safetensors").write_bytes(checkpoint_files()[1])
    load_checkpoint(folder)


def make_safetensors(choose: random.Random) -> bytes:
    content = checkpoint_files()[1]
    return choose.choice((damaged, damaged_safetensors))(choose, content)


def read_safetensors(folder: Path, content: bytes) -> None:
    if not (folder / "config.json").is_file():
        (folder / "config.json").write_bytes(checkpoint_files()[0])
    (folder / "model.safetensors").write_bytes(content)
    load_checkpoint(folder)


@cache
def _states() -> list[bytes]:
    values = {
        "step": 3,
        "model": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64)},
        "words": ["x", 1.5, None, (1, 2)],
    }
    files = []
    for content in (values, values["model"]):
        for zipped in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=zipped)
            files.append(file.getvalue())
    return files


class Malicious:
    """Unpickling it would call something; what it calls here leaves a mark."""

    def __init__(self, called: Callable, arguments: tuple) -> None:
        self.called, self.arguments = called, arguments

    def __reduce__(self):
        return self.called, self.arguments


RAN = []
"""What malicious files have run; must stay empty."""


def ran(what: str) -> None:
    RAN.append(what)


def malicious(choose: random.Random) -> bytes:
    """A file whose unpickling calls `ran`, in one of the forms that torch reads."""
    evil = Malicious(choose.choice((ran, exec, eval)), ("fuzz.targets.RAN.append('code')",))
    if evil.called is ran:
        evil.arguments = ("ran",)
    content = choose.choice((evil, {"a": evil}, {"a": torch.ones(2), "b": [evil]}))
    file = io.BytesIO()
    kind = choose.randrange(4)
    if kind == 0:
        pickle.dump(content, file, protocol=choose.randrange(6))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind > 1)
    return file.getvalue()


def make_state(choose: random.Random) -> bytes:
    if choose.random() < 0.2:
        evil = malicious(choose)
        return evil if choose.random() < 0.5 else damaged(choose, evil)
    content = choose.choice(_states())
    if zipfile.is_zipfile(io.BytesIO(content)) and choose.random() < 0.6:
        return damaged_zip(choose, content)
    return damaged(choose, content)


def read_state(folder: Path, content: bytes) -> None:
    path = folder / "state.pth"
    path.write_bytes(content)
    for read in (read_weights, load_state):
        with contextlib.suppress(UserError):
            read(path)
    assert not RAN, "code of the file was run"


@cache
def _caffemodels() -> list[bytes]:
    weights = np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3)
    scale = np.ones((1, 2, 1, 1), np.float32)
    layers = [
        CaffeLayer("conv1_1", "Convolution", ("data",), ("conv1_1",), (weights, scale.ravel())),
        CaffeLayer("bn1_1", "BN", ("conv1_1",), ("conv1_1",), (scale, scale), "inference"),
        CaffeLayer("pool1", "Pooling", ("conv1_1",), ("pool1", "mask")),
    ]
    files = []
    with tempfile.TemporaryDirectory() as scratch:
        for dialect in ("deconvnet", "segnet"):
            write_caffemodel(Path(scratch) / "x", layers, dialect=dialect, name="tiny")
            files.append((Path(scratch) / "x").read_bytes())
    return files


def make_caffemodel(choose: random.Random) -> bytes:
    return damaged(choose, choose.choice(_caffemodels()))


def read_caffe(folder: Path, content: bytes) -> None:
    (folder / "a.caffemodel").write_bytes(content)
    model = read_caffemodel(folder / "a.caffemodel")
    for use in (vgg16_from_caffe, lambda read: network_from_caffe(read, "deconvnet")):
        with contextlib.suppress(UserError):
            use(model)


# Archives and journals


@cache
def _archives() -> list[bytes]:
    files = []
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("set/images/a.txt", "hello" * 50)
        archive.writestr("set/b.txt", bytes(3000))
    files.append(zipped.getvalue())
    for mode in ("w", "w:gz", "w:xz", "w:bz2"):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode=mode) as archive:
            for name in ("set/images/a.txt", "set/b.txt"):
                info = tarfile.TarInfo(name)
                info.size = 2000
                archive.addfile(info, io.BytesIO(bytes(2000)))
        files.append(packed.getvalue())
    return files


def make_archive(choose: random.Random) -> bytes:
    content = choose.choice(_archives())
    if content.startswith(b"PK") and choose.random() < 0.4:
        return damaged_zip(choose, content)
    return damaged(choose, content)


def read_archive(folder: Path, content: bytes) -> None:
    (folder / "archive").write_bytes(content)
    shutil.rmtree(folder / "out", ignore_errors=True)
    unpack(folder / "archive", folder / "out", most_bytes=100_000, most_files=50)
    left = {path.name for path in folder.iterdir()}
    assert left == {"archive", "out"}, f"written outside its folder: {left}"


_JOURNAL = "\n".join(
    json.dumps(line)
    for line in (
        {"settings": {"model": "unet", "crf": False}},
        {"name": "a", "source": "a.jpg", "stamp": [3, 4], "share": {"x": 0.5}, "doubt": None},
        {"name": "b", "source": "b.jpg", "stamp": [3, 4], "share": {}, "unlike": "darker"},
    )
)


def make_journal(choose: random.Random) -> bytes:
    lines = _JOURNAL.splitlines()
    if choose.random() < 0.5:
        at = choose.randrange(len(lines))
        lines[at] = damaged_json(choose, json.loads(lines[at])).decode("latin-1")
        return "\n".join(lines).encode("latin-1", "replace")
    return damaged_lines(choose, _JOURNAL)


def read_journal(folder: Path, content: bytes) -> None:
    (folder / "finished.jsonl").write_bytes(content)
    with Journal(folder / "finished.jsonl", {"model": "unet", "crf": False}, resume=True):
        pass


TARGETS: dict[str, Target] = {
    "pictures": Target(make_picture, read_picture, 20),
    "masks": Target(make_mask, lambda f, c: _read_as_mask(f, c, "mask.png"), 12),
    "MATLAB masks": Target(
        lambda choose: damaged(choose, choose.choice(_matlab())),
        lambda f, c: _read_as_mask(f, c, "mask.mat"),
        5,
    ),
    "recipes": Target(make_recipe, read_recipe, 6),
    "class tables": Target(make_table, read_table, 14),
    "drawn pictures' settings": Target(make_scenes, read_scenes, 3),
    "COCO JSON": Target(make_coco, read_coco, 7),
    "Labelme JSON": Target(make_labelme, read_labelme, 7),
    "lists of pictures": Target(make_list, read_list, 4),
    "config.json": Target(make_config, read_config, 1),
    "safetensors": Target(make_safetensors, read_safetensors, 1),
    "files of torch": Target(make_state, read_state, 9),
    "caffemodels": Target(make_caffemodel, read_caffe, 5),
    "archives": Target(make_archive, read_archive, 3),
    "journals": Target(make_journal, read_journal, 3),
}
"""Every reader, by what it reads. To add one, add a line; the shares add up to a hundred."""
