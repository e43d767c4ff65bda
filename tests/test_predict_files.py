import csv
import gc
import json
import os
import signal
import subprocess
import sys
import time
import weakref

import numpy as np
import PIL.Image
import pytest
import torch

from deconvnet.annotations import Labelled
from deconvnet.annotations.pictures import copy_picture
from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.data import open_dataset
from deconvnet.data.mask_files import read_raw_mask
from deconvnet.data.scenes import SCENES, Scenes
from deconvnet.errors import DataError, ImageFileError, OutputError, RecipeError
from deconvnet.predict import Predictor, load
from deconvnet.predict_files import Outputs, find_pictures, plan, predict_files

PICTURES = 4
OPTIONS = {"width": 1 / 32, "batch_norm": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint and some pictures."""
    torch.manual_seed(1)
    place = tmp_path_factory.mktemp("predict")
    config = Config("unet", SCENES, OPTIONS)
    save_checkpoint(place / "net", build_network(config), config)
    for index, sample in enumerate(Scenes("val", count=PICTURES, size=(33, 40))):
        path = place / "in" / f"set{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(sample.image).save(path)
    return place


def run(folder, out, **options):
    shown = []
    masks = predict_files(
        lambda: load(folder / "net"), [folder / "in"], out, report=shown.append, quiet=True,
        **options,
    )  # fmt: skip
    return masks, shown


def contents(out):
    """Every result by its name, but the journal, whose lines may come in another order."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*.*"))
        if path.suffix != ".jsonl"
    }


class Stopping(Predictor):
    """A predictor that is interrupted at its n-th picture."""

    def __init__(self, predictor, at):
        for name, value in [*vars(predictor).items(), ("at", at), ("seen", [])]:
            object.__setattr__(self, name, value)

    def __call__(self, image, **options):
        if len(self.seen) == self.at:
            raise KeyboardInterrupt
        self.seen.append(image.shape)
        return super().__call__(image, **options)

    @property
    def calls(self):
        return len(self.seen)


@pytest.mark.parametrize("at", [0, 3])
def test_an_interrupted_folder_goes_on_with_neither_gap_nor_repeated_work(
    folder, tmp_path, capsys, at
):
    asked = {"uncertainty": "entropy", "outputs": Outputs(annotations="coco")}
    run(folder, tmp_path / "whole", **asked)
    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        predict_files(lambda: Stopping(load(folder / "net"), at), [folder / "in"], out, **asked)
    said = capsys.readouterr().err
    assert f"Stopped; {at} results" in said
    assert "--resume" in said
    assert not (out / "shares.csv").exists()
    second = Stopping(load(folder / "net"), 99)
    shown = []
    predict_files(
        lambda: second, [folder / "in"], out, resume=True, report=shown.append, **asked
    )
    assert second.calls == PICTURES - at
    assert len(shown) == PICTURES  # what was finished before is told too
    assert contents(out) == contents(tmp_path / "whole")


def test_resuming_does_again_what_is_missing_changed_or_cut_short(folder, tmp_path):
    inputs = tmp_path / "in"
    inputs.mkdir()
    for name in "abc":
        (inputs / f"{name}.png").write_bytes((folder / "in" / "set0" / "0.png").read_bytes())
    out = tmp_path / "out"
    predict_files(lambda: load(folder / "net"), [inputs], out, quiet=True)
    before = contents(out)
    (out / "a.mask.png").unlink()
    (inputs / "b.png").write_bytes((folder / "in" / "set0" / "2.png").read_bytes())
    journal = out / "finished.jsonl"
    journal.write_text(journal.read_text()[:-20])  # the line of c, torn
    watched = Stopping(load(folder / "net"), 99)
    predict_files(lambda: watched, [inputs], out, resume=True, quiet=True)
    assert watched.calls == 3
    after = contents(out)
    assert [name for name in before if before[name] != after[name]] == [
        "b.mask.png",
        "b.overlay.png",
        "shares.csv",
    ]
    watched = Stopping(load(folder / "net"), 99)
    predict_files(lambda: watched, [inputs], out, resume=True, quiet=True)
    assert watched.calls == 0


def test_resuming_with_other_settings_or_weights_is_refused(folder, tmp_path):
    run(folder, tmp_path / "out")
    with pytest.raises(RecipeError, match=r"begun with other settings \(tta was None and is T"):
        run(folder, tmp_path / "out", resume=True, tta=True)
    other = Predictor(
        build_network(Config("unet", SCENES, OPTIONS)), load(folder / "net").config
    )
    with pytest.raises(RecipeError, match="checkpoint was"):
        predict_files(lambda: other, [folder / "in"], tmp_path / "out", resume=True, quiet=True)
    run(folder, tmp_path / "out", tta=True)  # without --resume all is done anew


def test_shards_are_joined_by_resuming_without_one(folder, tmp_path):
    run(folder, tmp_path / "whole", uncertainty="entropy")
    out = tmp_path / "parts"
    for shard in ("0/2", "1/2"):
        run(folder, out, uncertainty="entropy", shard=shard)
    watched = Stopping(load(folder / "net"), 0)
    predict_files(
        lambda: watched, [folder / "in"], out, uncertainty="entropy", resume=True, quiet=True
    )
    assert watched.calls == 0
    joined = contents(out)
    assert {name: joined[name] for name in contents(tmp_path / "whole")} == contents(
        tmp_path / "whole"
    )


def test_doubt_is_a_picture_and_a_table_with_the_most_doubtful_first(folder, tmp_path):
    masks, _ = run(folder, tmp_path, uncertainty="flips")
    with (tmp_path / "doubt.csv").open() as file:
        rows = list(csv.DictReader(file))
    doubts = [float(row["doubt"]) for row in rows]
    assert len(rows) == PICTURES
    assert doubts == sorted(doubts, reverse=True)
    segmentation = load(folder / "net")(folder / "in/set0/0.png", uncertainty="flips")
    drawn = np.array(PIL.Image.open(tmp_path / "set0" / "0.doubt.png"))
    np.testing.assert_array_equal(drawn, np.rint(255 * segmentation.doubt_map))
    shown = {row["picture"]: float(row["doubt"]) for row in rows}
    assert shown["set0/0"] == pytest.approx(segmentation.doubt, abs=1e-6)
    assert len(masks) == PICTURES


@pytest.mark.parametrize("format_name", ["labelme", "coco"])
def test_annotations_read_back_as_training_data_give_the_masks(folder, tmp_path, format_name):
    out = tmp_path / "out"
    run(folder, out, outputs=Outputs(annotations=format_name), uncertainty="entropy")
    names = [f"set{i % 2}/{i}" for i in range(PICTURES)]
    (out / format_name / "train.txt").write_text("\n".join(names) + "\n")
    dataset = open_dataset(out / format_name, "train")
    assert dataset.classes.names == SCENES.names
    assert len(dataset) == PICTURES
    for sample in dataset:
        mask = read_raw_mask(out / f"{sample.name}.mask.png").values
        np.testing.assert_array_equal(sample.label_map, mask)
        picture = np.array(PIL.Image.open(folder / "in" / f"{sample.name}.png"))
        np.testing.assert_array_equal(sample.image, picture)


def test_coco_files_name_the_most_doubtful_picture_first(folder, tmp_path):
    run(folder, tmp_path, outputs=Outputs(annotations="coco"), uncertainty="entropy")
    document = json.loads(
        (tmp_path / "coco" / "annotations" / "instances_default.json").read_text()
    )
    doubts = [image["doubt"] for image in document["images"]]
    assert doubts == sorted(doubts, reverse=True)
    assert len(doubts) == PICTURES


def test_masks_alone_on_demand(folder, tmp_path):
    run(folder, tmp_path, outputs=Outputs(overlay=False))
    assert not list(tmp_path.rglob("*.overlay.png"))
    assert len(list(tmp_path.rglob("*.mask.png"))) == PICTURES


def test_results_within_the_input_folder_are_not_segmented_in_turn(folder, tmp_path):
    (tmp_path / "a.png").write_bytes((folder / "in" / "set0" / "0.png").read_bytes())
    for _ in range(2):
        masks = predict_files(
            lambda: load(folder / "net"), [tmp_path], tmp_path / "out", quiet=True
        )
        assert masks == [tmp_path / "out" / "a.mask.png"]


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"outputs": Outputs(annotations="yolo")}, RecipeError, "no format of annotations 'yo"),
        (
            {"outputs": Outputs(annotations="coco"), "shard": "0/2"},
            RecipeError,
            "shards cannot",
        ),
        ({"outputs": Outputs(simplify=-1.0)}, RecipeError, "give pixels, 0 or more"),
        ({"max_pixels": 100}, ImageFileError, "--max_pixels"),
        ({"uncertainty": "dropout", "samples": 1}, RecipeError, "2 or more"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    folder, tmp_path, options, error, sentence
):
    with pytest.raises(error, match=sentence):
        run(folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_results_alone_holds_no_picture(folder, tmp_path):
    run(folder, tmp_path)
    with pytest.raises(DataError, match="nothing but results"):
        predict_files(lambda: load(folder / "net"), [tmp_path], tmp_path, quiet=True)


def test_two_pictures_for_one_mask_stay_an_error_when_resuming(folder, tmp_path):
    for suffix in ("png", "bmp"):
        PIL.Image.new("RGB", (9, 9)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(OutputError, match="would both be written"):
        predict_files(
            lambda: load(folder / "net"), [tmp_path], tmp_path / "out", resume=True, quiet=True
        )


def test_no_picture_outlives_its_turn(folder, tmp_path, monkeypatch):
    alive, most = weakref.WeakSet(), 0

    class Watched(Stopping):
        def __call__(self, image, **options):
            nonlocal most
            gc.collect()
            segmentation = super().__call__(image, **options)
            alive.add(Holder.of(segmentation))
            most = max(most, len(alive))
            return segmentation

    class Holder:
        """Lives as long as a segmentation."""

        @classmethod
        def of(cls, segmentation):
            held = cls()
            object.__setattr__(segmentation, "_held", held)
            return held

    watched = Watched(load(folder / "net"), 99)
    predict_files(lambda: watched, [folder / "in"], tmp_path, quiet=True)
    assert most <= 2  # the one at work, and the last one until its name is taken
    gc.collect()
    assert len(alive) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3])
def test_a_killed_prediction_resumes_with_neither_gap_nor_half_file(folder, tmp_path, seconds):
    many = tmp_path / "in"
    many.mkdir()
    for index, sample in enumerate(Scenes("val", count=40, size=64)):
        PIL.Image.fromarray(sample.image).save(many / f"{index:02d}.png")
    words = [sys.executable, "-m", "deconvnet", "predict", str(folder / "net"), str(many)]
    words += ["--threads", "1", "--uncertainty", "entropy"]
    subprocess.run([*words, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    out = tmp_path / "killed"
    process = subprocess.Popen([*words, "--out", str(out)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    while not (out / "finished.jsonl").exists():
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for path in out.rglob("[!.]*.png"):
        PIL.Image.open(path).load()  # none is half
    subprocess.run([*words, "--out", str(out), "--resume"], check=True, capture_output=True)
    found = {n: c for n, c in contents(out).items() if ".partial" not in n}
    assert found == contents(tmp_path / "whole")


def test_each_name_of_a_picture_has_its_own_result_and_linked_folders_are_entered(tmp_path):
    shown = np.zeros((8, 9, 3), np.uint8)
    for place in ("there/a.png", "here/b.png"):
        (tmp_path / place).parent.mkdir()
        PIL.Image.fromarray(shown).save(tmp_path / place)
    (tmp_path / "here" / "c.png").symlink_to("b.png")
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "again").symlink_to(tmp_path / "here")
    found = find_pictures([tmp_path / "here", tmp_path / "here" / "b.png"])
    assert [file.name for file in found] == ["b", "c", "linked/a"]


def test_a_picture_whose_name_is_in_another_encoding_is_refused_before_the_work(tmp_path):
    place = tmp_path / os.fsdecode(b"\xb0\xc5\xb8\xae.png")
    try:
        PIL.Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(place)
    except OSError:
        pytest.skip("this file system takes no names but UTF-8")
    for given in (tmp_path, place):
        with pytest.raises(DataError, match=r"xb0.* has a name that is not UTF-8; rename it"):
            find_pictures([given])


def test_pictures_of_one_name_are_not_packed_over_one_another(tmp_path):
    for place in ("in/a/0.png", "in/b/0.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        PIL.Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / place)
    outputs = Outputs(voc_submission=tmp_path / "x.tgz")
    with pytest.raises(OutputError, match=r"would both be 0.png in the archive for VOC"):
        plan([tmp_path / "in"], tmp_path / "out", outputs)
    with pytest.raises(RecipeError, match="shards cannot pack them"):
        plan([tmp_path / "in" / "a"], tmp_path / "out", outputs, shard="0/2")


@pytest.mark.parametrize("asked", [{"annotations": "coco"}, {"voc_submission": "x.tgz"}])
def test_what_is_made_of_pictures_is_refused_where_there_are_films_alone(tmp_path, asked):
    cv2 = pytest.importorskip("cv2")
    film = cv2.VideoWriter(
        str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (32, 24)
    )
    film.write(np.zeros((24, 32, 3), np.uint8))
    film.release()
    with pytest.raises(RecipeError, match="is of pictures, and the inputs are films"):
        plan([tmp_path / "a.avi"], tmp_path / "out", Outputs(**asked))


def test_a_picture_beside_its_annotations_is_the_one_that_was_annotated(tmp_path):
    source, folder = tmp_path / "a.bmp", tmp_path / "out"
    folder.mkdir()
    for level in (10, 200):  # files of one size
        PIL.Image.fromarray(np.full((8, 9, 3), level, np.uint8)).save(source)
        copy_picture(Labelled("a", source, np.zeros((8, 9), np.uint8)), folder)
        assert (folder / "a.bmp").read_bytes() == source.read_bytes()
