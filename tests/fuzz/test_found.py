"""What the loop has found, each as small as it can be; every one was a traceback or worse."""

import io
import json
import struct
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from scipy.io import loadmat, savemat

from deconvnet.archives import unpack
from deconvnet.checkpoint import (
    build_network,
    load_checkpoint,
    load_state,
    read_weights,
    save_checkpoint,
)
from deconvnet.cli import main
from deconvnet.data import open_dataset
from deconvnet.data.class_files import read_classes
from deconvnet.data.class_statistics import ClassStatistics, median_frequency_weights
from deconvnet.data.image_files import read_image
from deconvnet.data.json_files import whole_number
from deconvnet.data.mask_files import MaskCoding, read_mask
from deconvnet.data.matlab_files import read_structure_field
from deconvnet.errors import (
    CheckpointError,
    DataError,
    ImageFileError,
    LabelError,
    RecipeError,
    UserError,
)
from deconvnet.predict_journal import Journal
from deconvnet.recipe import Recipe
from fuzz.loop import peak_memory
from fuzz.targets import draw_list_folders
from small_networks import predictor


def test_an_animation_that_lies_about_its_size_is_refused_before_a_page_is_decoded():
    frames = [PIL.Image.new("P", (20, 16), index) for index in range(2)]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    content = bytearray(file.getvalue())
    content[16:24] = struct.pack(">II", 24, 2**25)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    before = peak_memory()
    with pytest.raises(ImageFileError, match="pixels; up to"):
        read_image(bytes(content), page=1)
    assert peak_memory() < before + 100


def test_postscript_is_no_picture_whose_decoder_is_a_program():
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(ImageFileError, match="no picture that can be read"):
        read_image(content)


def test_a_matlab_mask_whose_packed_end_is_damaged_does_not_kill_the_process(tmp_path):
    labels = np.arange(2000, dtype=np.uint8).reshape(40, 50) % 21
    savemat(tmp_path / "a.mat", {"GTcls": {"Segmentation": labels}}, do_compression=True)
    assert read_mask(tmp_path / "a.mat", MaskCoding(21)).tolist() == labels.tolist()
    content = (tmp_path / "a.mat").read_bytes()
    for damage in (content[:-11] + bytes(11), content[:-11], b"MATLAB 4" + content):
        (tmp_path / "a.mat").write_bytes(damage)
        with pytest.raises(ImageFileError, match="is no mask of SBD"):
            read_mask(tmp_path / "a.mat", MaskCoding(21))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("packed", [True, False])
def test_masks_of_sbd_are_read_as_scipy_reads_them(dtype, packed, tmp_path):
    labels = np.random.default_rng(0).integers(0, 21, (41, 53)).astype(dtype)
    labels[0, 0] = 200
    content = {"Boundaries": np.eye(3), "Segmentation": labels, "CategoriesPresent": [3.0]}
    savemat(tmp_path / "a.mat", {"x": 1, "GTcls": content, "y": "z"}, do_compression=packed)
    ours = read_structure_field(tmp_path / "a.mat", ("none", "GTcls"), "Segmentation")
    theirs = loadmat(tmp_path / "a.mat")["GTcls"].ravel()[0]["Segmentation"]
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("number", ["999", "9" * 5000])
def test_an_ignored_number_is_one_of_eight_bits(number, tmp_path):
    (tmp_path / "classes.txt").write_text(f"a\nb\nignored {number}\n")
    with pytest.raises(LabelError, match="give a number from 0 to 255"):
        read_classes(tmp_path)


def test_a_color_of_five_thousand_digits_is_out_of_range(tmp_path):
    (tmp_path / "classes.txt").write_text(f"a {'9' * 5000} 0 0\nb 0 0 0\n")
    with pytest.raises(LabelError, match="from 0 to 255"):
        read_classes(tmp_path)


@pytest.mark.parametrize("value", [10**400, float("nan"), float("inf"), -1, 1.5, True, "3"])
def test_numbers_too_large_for_a_float_are_no_whole_numbers_either(value):
    assert whole_number(value) is None


def test_a_name_longer_than_a_file_can_have_is_a_missing_picture(tmp_path):
    folder = draw_list_folders(tmp_path)
    (folder / "train.txt").write_text("x" * 300)
    with pytest.raises(DataError, match="is missing"):
        open_dataset(folder)
    with pytest.raises(DataError, match="There is no data set"):
        open_dataset("x" * 300)
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load_checkpoint("x" * 300)


@pytest.mark.parametrize(
    "words", [["check-data", "x" * 300], ["evaluate", "x" * 300, "y" * 300]]
)
def test_a_long_name_on_the_command_line_is_refused_in_a_sentence(words, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("deconvnet: ")
    assert said.count("\n") == 1


@pytest.mark.filterwarnings("error")
def test_classes_that_no_picture_shows_weigh_one_and_warn_of_nothing():
    statistics = ClassStatistics(*[np.zeros(3, np.int64)] * 3, 0)
    assert median_frequency_weights(statistics).tolist() == [1, 1, 1]


@pytest.mark.parametrize("setting", ["max_objects=1" + "0" * 30, "count=1" + "0" * 30])
def test_drawn_pictures_have_an_end(setting):
    with pytest.raises(DataError, match="give at most"):
        open_dataset(f"scenes:{setting}")


@pytest.mark.parametrize("text", ["a: !!int ''", "a: !!timestamp x", "a: !!bool ''"])
def test_yaml_that_its_own_reader_stumbles_over_is_refused(text, tmp_path):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(RecipeError, match="not valid YAML"):
        Recipe.from_file(tmp_path / "a.yaml")


def test_a_setting_too_large_for_a_float_is_out_of_range():
    with pytest.raises(RecipeError, match="learning_rate is inf; it must be above 0"):
        Recipe.from_mapping({"learning_rate": 10**400})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    network = predictor("unet", width=1 / 64)
    return save_checkpoint(tmp_path_factory.mktemp("tiny"), network.network, network.config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("colors", [[float("inf"), 0, 0]] * 3),
        ("colors", [[300, 0, 0]] * 3),
        ("background", 7),
        ("background", "x"),
        ("std", [0, 1, 1]),
        ("mean", [float("nan"), 0, 0]),
        ("input_scale", -1),
    ],
)
def test_a_config_of_impossible_values_is_refused(key, value, checkpoint, tmp_path):
    values = json.loads((checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {key: value}))
    (tmp_path / "model.safetensors").write_bytes(
        (checkpoint / "model.safetensors").read_bytes()
    )
    with pytest.raises(CheckpointError, match="is no description of a network"):
        load_checkpoint(tmp_path)


def test_a_config_that_asks_for_gigabytes_is_refused_before_they_are_taken(
    checkpoint, tmp_path
):
    values = json.loads((checkpoint / "config.json").read_text())
    values["options"] = {"width": 16}  # 8 GB of weights
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").write_bytes(
        (checkpoint / "model.safetensors").read_bytes()
    )
    before = peak_memory()
    with pytest.raises(CheckpointError, match="another network"):
        load_checkpoint(tmp_path)
    assert peak_memory() < before + 200


@pytest.mark.parametrize(
    ("channels", "values", "said"),
    [
        (4, 4, "takes pictures of 4 channels"),
        (2, 2, "takes pictures of 2 channels"),
        (3, 4, "by 4 and 4 values"),
        (1, 3, "by 3 and 3 values"),
    ],
)
def test_a_network_for_pictures_that_nobody_reads_is_refused_before_the_work(
    channels, values, said, tmp_path, capsys
):
    numbers = {"mean": (0.5,) * values, "std": (0.2,) * values}
    config = replace(predictor("unet", width=1 / 64).config, in_channels=channels, **numbers)
    save_checkpoint(tmp_path / "other", build_network(config), config)
    PIL.Image.new("RGBA", (32, 32)).save(tmp_path / "a.tif")
    words = ["predict", tmp_path / "other", tmp_path / "a.tif", "--out", tmp_path / "out"]
    assert main([*map(str, words), "--device", "cpu"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cut_pickle_of_any_kind_is_refused(tmp_path):
    file = io.BytesIO()
    torch.save({"a": torch.ones(2)}, file, _use_new_zipfile_serialization=False)
    content = file.getvalue()
    for length in range(0, len(content), 7):
        (tmp_path / "a.pth").write_bytes(content[:length])
        for read in (read_weights, load_state):
            with pytest.raises(CheckpointError):
                read(tmp_path / "a.pth")


def test_a_malicious_pickle_is_refused_by_the_name_of_what_it_calls(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"cposix\nsystem\n(S'exit'\ntR.")
    with pytest.raises(CheckpointError, match=r"more than tensors \(posix\.system\)"):
        read_weights(tmp_path / "a.pth")


def test_a_zip_whose_member_has_no_name_is_not_unpacked(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("name", "content")
    (tmp_path / "a.zip").write_bytes(file.getvalue().replace(b"name", b"\0ame"))
    with pytest.raises(DataError, match="so it was not unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "line", ['{"settings": []}', '{"settings": {}}\n{"name": [], "stamp": [1, 2], "share": {}}']
)
def test_a_journal_with_lists_for_names_holds_nothing_that_is_finished(line, tmp_path):
    (tmp_path / "finished.jsonl").write_text(line + "\n")
    with Journal(tmp_path / "finished.jsonl", {}, resume=True) as journal:
        assert len(journal) == 0


def test_messages_neither_fill_the_screen_nor_steer_the_terminal():
    assert str(UserError("a \x1b[2J b")) == "a \\x1b[2J b"
    assert str(UserError("한국어, naïve × 2")) == "한국어, naïve × 2"
    long = str(UserError("x" * 10_000 + "; do this."))
    assert len(long) < 2100
    assert long.endswith("; do this.")


def test_a_gif_whose_frame_is_far_larger_takes_no_memory_for_it(tmp_path, monkeypatch):
    frame = struct.pack("<4H", 0, 0, 50_000, 58_000)
    clears_behind_itself = b"\x21\xf9\x04\x08\x0a\x00\x00\x00"
    path = tmp_path / "huge.gif"
    path.write_bytes(
        b"GIF89a\x14\x00\x10\x00\x80\x00\x00" + bytes(6) + clears_behind_itself
        + b"," + frame + b"\x00\x08\x02\x4c\x01\x00;"
    )  # fmt: skip
    filled = []
    monkeypatch.setattr(PIL.Image.core, "fill", lambda mode, size, color: filled.append(size))
    with pytest.raises(ImageFileError, match="allow it by --max_pixels"):
        read_image(path, max_pixels=1_000_000)
    assert not filled
