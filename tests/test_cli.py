import errno
import json
import subprocess
import sys
import tarfile

import numpy as np
import PIL.Image
import pytest

import deconvnet.checkpoint as checkpoint_module
from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.cli import main
from deconvnet.data.scenes import SCENES
from deconvnet.recipe import Recipe, setting_docs

COMMANDS = (
    "train",
    "evaluate",
    "predict",
    "serve",
    "compare",
    "ablate",
    "describe",
    "check-data",
    "convert",
    "download",
    "demo",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    config = Config("unet", SCENES, {"width": 1 / 32, "batch_norm": True})
    return str(
        save_checkpoint(tmp_path_factory.mktemp("net") / "best", build_network(config), config)
    )


def picture(path, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    PIL.Image.fromarray(noise).save(path)
    return str(path)


def run(*words):
    """The exit status of a command; SystemExit of argparse counts too."""
    try:
        return main(list(words))
    except SystemExit as end:
        return end.code


def test_help_and_import_are_quick_and_do_not_import_torch():
    watch = "import sys; import deconvnet.cli as c\ntry: c.main({0})\nexcept SystemExit: pass\n"
    watch += "print(sorted({{'torch', 'numpy', 'yaml'}} & set(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", watch.format(["--help"])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.endswith("[]\n")
    shown = subprocess.run(
        [sys.executable, "-c", "import sys, deconvnet; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "False\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert run(command, "--help") == 0
    shown = capsys.readouterr().out
    assert "--threads" in shown
    assert "--quiet" in shown


def test_train_help_lists_every_setting_with_its_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["deconvnet", "train", "--help"])
    assert run("train", "--help") == 0
    shown = capsys.readouterr().out
    for name in Recipe().to_dict():
        assert f"--{name} " in shown
    assert setting_docs()["clip"][:20] in shown


def test_predict_writes_masks_overlays_legend_and_shares(checkpoint, tmp_path, capsys):
    picture(tmp_path / "in" / "a" / "one.png")
    picture(tmp_path / "in" / "two.jpg", (33, 50))
    out = tmp_path / "out"
    assert run("predict", checkpoint, str(tmp_path / "in"), "--out", str(out), "--quiet") == 0
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert written == [
        "a/one.mask.png",
        "a/one.overlay.png",
        "finished.jsonl",
        "legend.png",
        "shares.csv",
        "two.mask.png",
        "two.overlay.png",
    ]
    mask = PIL.Image.open(out / "two.mask.png")
    assert mask.mode == "P"
    assert mask.size == (33, 50)
    assert np.array(mask).max() < len(SCENES)
    assert PIL.Image.open(out / "two.overlay.png").size == (33, 50)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert " %" in lines[0]
    shares = (out / "shares.csv").read_text().splitlines()
    assert shares[0] == "picture," + ",".join(SCENES.names)
    assert sum(map(float, shares[1].split(",")[1:])) == pytest.approx(1, abs=1e-4)


def test_predict_packs_a_voc_submission(checkpoint, tmp_path):
    for index in range(2):
        picture(tmp_path / "in" / f"2008_{index:06d}.jpg")
    archive = tmp_path / "results.tgz"
    words = ("--out", str(tmp_path / "out"), "--voc-submission", str(archive), "--quiet")
    assert run("predict", checkpoint, str(tmp_path / "in"), *words) == 0
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [
            "results/VOC2012/Segmentation/comp6_test_cls/2008_000000.png",
            "results/VOC2012/Segmentation/comp6_test_cls/2008_000001.png",
        ]
        packed = tar.extractfile(tar.getnames()[1]).read()
    assert packed == (tmp_path / "out" / "2008_000001.mask.png").read_bytes()


def test_shards_share_the_work_and_give_what_one_process_gives(checkpoint, tmp_path):
    for index in range(5):
        picture(tmp_path / "in" / f"{index}.png", (30 + index, 20))
    inputs, out = str(tmp_path / "in"), tmp_path / "out"
    assert run("predict", checkpoint, inputs, "--out", str(out / "all"), "--quiet") == 0
    for shard in ("0/2", "1/2"):
        words = ("--out", str(out / "parts"), "--shard", shard, "--quiet")
        assert run("predict", checkpoint, inputs, *words) == 0
    for whole in (out / "all").glob("*.mask.png"):
        assert whole.read_bytes() == (out / "parts" / whole.name).read_bytes()


def test_evaluate_writes_the_promised_json(checkpoint, tmp_path, capsys):
    words = ("evaluate", checkpoint, "scenes:size=48,count=3", "--json", "--quiet")
    assert run(*words, "--confusion", str(tmp_path / "matrix.png")) == 0
    values = json.loads(capsys.readouterr().out)
    assert set(values) >= {
        "mean_iou",
        "pixel_accuracy",
        "mean_accuracy",
        "frequency_weighted_iou",
        "boundary_f1",
        "iou",
        "iou_by_size",
        "images",
        "split",
    }
    assert values["images"] == 3
    assert values["split"] == "val"
    assert list(values["iou"]) == list(SCENES.names)
    assert set(values["iou_by_size"]) == {"small", "medium", "large"}
    assert PIL.Image.open(tmp_path / "matrix.png").size[0] > 300


def test_describe_tells_the_published_figures(capsys):
    """Those of the largest network are in test_describe.py, without its gigabyte."""
    assert run("describe", "segnet-basic", "--num-classes", "11", "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["parameters"] == 1_416_587
    assert values["receptive_field"] == 106
    assert values["layers"][0]["kind"] == "local_response_norm"
    assert values["size"] == [224, 224]


def test_dashes_and_underscores_are_alike(tmp_path, capsys):
    words = ("train", "--data", "scenes:size=48,count=4", "--out", str(tmp_path / "run"))
    settings = ("--model", "unet", "--width=0.03", "--crop-size", "32", "--batch_size", "2")
    assert run(*words, *settings, "--dry-run", "--quiet") == 0
    assert "crops of 32 pixels" in capsys.readouterr().out


def test_a_place_without_the_right_to_read_is_said_in_one_sentence(monkeypatch, capsys):
    def refused(*_words):
        raise PermissionError(errno.EACCES, "Permission denied", "/private/best")

    monkeypatch.setattr(checkpoint_module, "is_dir", refused)
    assert main(["describe", "/private/best"]) == 2
    said = capsys.readouterr().err
    assert "/private/best cannot be used: Permission denied; give a place that you may" in said


MISTAKES = [
    (
        ("predict", "no-such", "x.png", "--out", "o"),
        "There is no picture at x.png; give pictures",
    ),
    (("predict", "CHECKPOINT", "FOLDER/missing", "--out", "o"), "There is no picture at"),
    (
        ("predict", "CHECKPOINT", "FOLDER/text.png", "--out", "FOLDER/o"),
        "picture that can be read",
    ),
    (
        ("predict", "CHECKPOINT", "PICTURE", "--out", "PICTURE"),
        "is a file; name a folder for the",
    ),
    (
        ("predict", "CHECKPOINT", "PICTURE", "--out", "o", "--shard", "2/2"),
        "The shard is '2/2'",
    ),
    (("predict", "nothing", "PICTURE", "--out", "o"), "There is no checkpoint 'nothing'"),
    (
        ("predict", "CHECKPOINT", "PICTURE", "--out", "o", "--device", "tpu"),
        "has no device 'tpu'",
    ),
    (
        ("predict", "CHECKPOINT", "PICTURE", "--out", "o", "--bad", "1"),
        "There is no option or argument '--bad'",
    ),
    (("evaluate", "CHECKPOINT", "scenes", "--split", "vall"), "have no split 'vall'"),
    (("evaluate", "CHECKPOINT", "FOLDER/none"), "There is no data set"),
    (("train", "FOLDER/none.yaml"), "There is no recipe"),
    (("train", "--learning_rte", "1"), "Did you mean 'learning_rate'?"),
    (("train", "--steps"), "The setting 'steps' came without a value."),
    (("train", "--threads", "0"), "--threads is 0; it must be at least 1"),
    (("train", "--seed", "-1"), "--seed is -1; it must lie in 0 to"),
    (("compare", "x", "y", "z", "--out", "o", "--seed", str(2**64)), "it must lie in 0 to"),
    (("train", "--seed", str(2**63), "--dry_run"), "--seed is 9223372036854775808"),
    (
        ("train", "--dry_run", "--data", "scenes", "--start_from", "nosuch", "--out", "o"),
        "There is no checkpoint 'nosuch'",
    ),
    (
        ("train", "--dry_run", "--data", "scenes", "--devices", "0", "--out", "o"),
        "devices is 0; it must be at least 1",
    ),
    (
        ("evaluate", "CHECKPOINT", "scenes", "--json", "PICTURE/x.json"),
        "is a file; name a folder for x.json",
    ),
    (
        ("evaluate", "CHECKPOINT", "scenes", "--confusion", "PICTURE/x/y.png"),
        "is a file; name a folder for y.png",
    ),
    (
        ("compare", "CHECKPOINT", "CHECKPOINT", "scenes", "--out", "PICTURE/x"),
        "is a file; name a folder for the comparison",
    ),
    (
        ("ablate", "CHECKPOINT", "--data", "scenes", "--out", "PICTURE/x"),
        "is a file; name a folder for the ablation",
    ),
    (
        ("ablate", "CHECKPOINT", "--search", "crf", "--data", "scenes", "--out", "PICTURE/x"),
        "is a file; name a folder for the search",
    ),
    (
        ("export", "CHECKPOINT", "--to", "torch", "--out", "PICTURE/x"),
        "is a file; name a folder for the exported network",
    ),
    (
        ("evaluate", "CHECKPOINT", "scenes", "--tile", "64", "--reliability", "r.png"),
        "--reliability needs probabilities, and tiles keep none",
    ),
    (
        ("evaluate", "unet-em", "scenes", "--remember"),
        "unet-em is no folder of your own, and what its pictures are like",
    ),
    (("evaluate", "CHECKPOINT", "FOLDER/none", "--remember"), "There is no data set"),
    (("describe", "nothing"), "There is no checkpoint 'nothing'"),
    (("describe", "unet", "--width", "-1"), "width is -1.0"),
    (("nonsense",), "invalid choice: 'nonsense'"),
    ((), "The following arguments are required: COMMAND"),
]


@pytest.mark.parametrize(
    ("words", "sentence"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES]
)
def test_a_mistake_ends_with_2_and_one_sentence(words, sentence, checkpoint, tmp_path, capsys):
    (tmp_path / "text.png").write_text("no picture")
    shown = picture(tmp_path / "picture.png")
    filled = [
        word.replace("CHECKPOINT", checkpoint)
        .replace("FOLDER", str(tmp_path))
        .replace("PICTURE", shown)
        for word in words
    ]
    assert run(*filled) == 2
    output = capsys.readouterr()
    assert sentence in output.err
    assert "Traceback" not in output.err
    assert len(output.err.strip().splitlines()) == 1


def test_two_pictures_that_would_write_one_mask_are_refused_before_work(
    checkpoint, tmp_path, capsys
):
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "a.jpg")
    out = tmp_path / "out"
    assert run("predict", checkpoint, str(tmp_path / "in"), "--out", str(out)) == 2
    assert "would both be written to a.mask.png" in capsys.readouterr().err
    assert not out.exists()


def test_a_data_set_of_other_classes_is_refused(tmp_path, checkpoint, capsys):
    for index in range(2):
        picture(tmp_path / "d" / "images" / f"{index}.png")
        mask = np.zeros((30, 40), np.uint8)
        mask[index:5] = 1
        (tmp_path / "d" / "masks").mkdir(exist_ok=True)
        PIL.Image.fromarray(mask).save(tmp_path / "d" / "masks" / f"{index}.png")
    (tmp_path / "d" / "val.txt").write_text("0\n1\n")
    assert run("evaluate", checkpoint, str(tmp_path / "d")) == 2
    assert "The network tells apart 8 classes" in capsys.readouterr().err
