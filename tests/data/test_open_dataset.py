import pytest

from deconvnet.data import READERS, open_dataset
from deconvnet.errors import DataError
from deconvnet.labels import CAMVID, MEMBRANES, VOC
from trees import draw_camvid, draw_folder, draw_isbi, draw_voc


def message_of(*arguments, **options):
    with pytest.raises(DataError) as caught:
        open_dataset(*arguments, **options)
    return str(caught.value)


def test_a_missing_folder_is_told(tmp_path):
    assert message_of(tmp_path / "absent") == (
        f"There is no data set {tmp_path}/absent; give a folder, or `scenes` for drawn "
        "pictures."
    )


def test_an_unknown_layout_is_told_with_the_known_ones(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "readme.md").touch()
    known = "; ".join(reader.layout for reader in READERS.values())
    assert message_of(tmp_path) == (
        f"{tmp_path} holds photos/, readme.md, which is no layout that is known. Known are: "
        f"{known}."
    )


def test_an_unknown_format_is_told(tmp_path):
    assert message_of(tmp_path, format="vok") == (
        "There is no format 'vok'; choose one of camvid, camvid32, cityscapes, voc, sbd, "
        "coco, labelme, label-studio, stack, isbi, folder, scenes. Did you mean 'voc'?"
    )


def test_a_format_that_the_folder_has_not_is_told(tmp_path):
    assert "there is no" in message_of(tmp_path, format="voc")
    assert "is no plain folder of pictures and masks" in message_of(tmp_path, format="folder")
    assert "is not laid out as ISBI 2012" in message_of(tmp_path, format="isbi")
    assert "has no split 'train'; it has none" in message_of(tmp_path, format="camvid")


def test_settings_of_drawn_pictures_are_for_drawn_pictures(tmp_path):
    assert message_of(tmp_path, size=3) == "size: only drawn pictures (`scenes`) have settings."
    assert message_of(tmp_path, format="voc", mask_values=(0, 1)) == (
        "mask_values are for plain folders, and the format is 'voc'."
    )


def test_camvid_is_read_without_lists_too(tmp_path):
    draw_camvid(tmp_path)
    listed = open_dataset(tmp_path, "val")
    (tmp_path / "val.txt").unlink()
    assert open_dataset(tmp_path, "val") == listed
    assert listed[0].label_map[0, 0] == 255
    assert "has no split 'test'; it has train, val." in message_of(tmp_path, "test")
    (tmp_path / "val.txt").write_text("a b c\n")
    assert "has the line 'a b c'; write `picture mask`" in message_of(tmp_path, "val")


def test_voc_is_found_below_its_devkit(tmp_path):
    draw_voc(tmp_path / "VOCdevkit" / "VOC2012")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == VOC
    sample = dataset[0]
    assert (sample.label_map[:2] == 255).all()
    assert (sample.instance_map[:2] == 0).all()
    assert "its lists are train, val." in message_of(tmp_path, "test")


def test_voc_tells_no_objects_apart_where_a_file_of_them_is_missing(tmp_path):
    draw_voc(tmp_path)
    (tmp_path / "SegmentationObject" / "2007_000000.png").unlink()
    assert open_dataset(tmp_path, "train")[1].instance_map is None
    assert open_dataset(tmp_path, "val")[0].instance_map is not None


def test_isbi_holds_every_fifth_slice_out(tmp_path):
    draw_isbi(tmp_path)
    assert open_dataset(tmp_path).names == ("0", "1", "2", "3", "5")
    assert open_dataset(tmp_path, "val").names == ("4",)
    (tmp_path / "classes.txt").write_text("dark\nbright\n")
    plain = open_dataset(tmp_path, mask_values=(0, 255))
    assert plain.classes.names == ("dark", "bright")


def test_a_plain_folder_of_numbered_pictures_is_not_taken_for_isbi(tmp_path):
    draw_folder(tmp_path)
    assert open_dataset(tmp_path).classes != MEMBRANES


def test_the_real_data_sets_are_recognised(shared_data):
    found = {
        name: (open_dataset(shared_data / name), open_dataset(shared_data / name, "val"))
        for name in ("camvid", "voc2012", "isbi2012", "coco200")
    }
    sizes = {name: (len(train), len(val)) for name, (train, val) in found.items()}
    assert sizes == {
        "camvid": (367, 101),
        "voc2012": (528, 100),
        "isbi2012": (20, 4),
        "coco200": (100, 100),
    }
    classes = {name: train.classes for name, (train, _) in found.items()}
    assert classes == {
        "camvid": CAMVID,
        "voc2012": VOC,
        "isbi2012": MEMBRANES,
        "coco200": VOC,
    }
    for train, val in found.values():
        for sample in (train[3], val[2]):
            assert sample.image.shape[:2] == sample.label_map.shape
