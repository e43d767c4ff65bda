import io
import threading

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deconvnet.data.image_files import image_size, read_image, write_mask, write_png
from deconvnet.errors import ImageFileError, OutputError
from deconvnet.labels import Classes

RED = np.zeros((4, 6, 3), np.uint8) + np.array([200, 30, 40], np.uint8)


def saved(path, array_or_image, **settings):
    image = array_or_image
    if isinstance(image, np.ndarray):
        image = PIL.Image.fromarray(image)
    image.save(path, **settings)
    return path


def test_a_picture_written_as_png_is_read_back_the_same(tmp_path):
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    write_png(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), picture)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_the_content_of_a_file_is_read_as_the_file_is(tmp_path):
    path = saved(tmp_path / "a.png", RED)
    np.testing.assert_array_equal(read_image(path.read_bytes()), RED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_to_pixels_and_size(tmp_path, orientation):
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:, 8:] = 255
    turn = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", np.ascontiguousarray(turn(upright)), exif=exif)
    np.testing.assert_array_equal(read_image(path), upright)
    assert image_size(path) == (8, 16)


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    suffix = {"CMYK": "tif", "YCbCr": "jpg"}.get(mode, "png")
    picture = PIL.Image.new("RGB", (6, 4), "white").convert(mode)
    path = saved(tmp_path / f"a.{suffix}", picture)
    image = read_image(path)
    assert image.shape == (4, 6, 3)
    assert image.min() >= 250


def test_cmyk_jpeg_keeps_its_colours(tmp_path):
    path = saved(
        tmp_path / "a.jpg", PIL.Image.new("RGB", (16, 16), (200, 40, 40)).convert("CMYK")
    )
    np.testing.assert_allclose(read_image(path)[8, 8].astype(int), (200, 40, 40), atol=6)


def test_transparent_parts_lie_over_white(tmp_path):
    picture = np.zeros((2, 2, 4), np.uint8)
    picture[0] = (10, 20, 30, 255)
    image = read_image(saved(tmp_path / "a.png", picture))
    assert image.tolist() == [[[10, 20, 30]] * 2, [[255, 255, 255]] * 2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 257, 65535], [0, 1, 255]),  # 16 bits
        ([0, 2048, 4095], [0, 128, 255]),  # 12 bits
        ([0, 100, 255], [0, 100, 255]),  # 8 bits in a wide file
    ],
)
def test_wide_grey_is_scaled_to_its_bits(tmp_path, values, expected):
    path = saved(tmp_path / "a.png", np.array([values], np.uint16))
    assert read_image(path)[0, :, 1].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"), [([0, 0.5, 1], [0, 128, 255]), ([0, np.nan, 200], [0, 0, 200])]
)
def test_floating_point_grey_is_a_share_or_a_value(tmp_path, values, expected):
    path = saved(tmp_path / "a.tif", np.array([values], np.float32))
    assert read_image(path)[0, :, 0].tolist() == expected


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [PIL.Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert read_image(path)[0, 0].tolist() == [255, 0, 0]


def test_errors_are_sentences(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    whole = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        whole, "PNG"
    )
    (tmp_path / "half.png").write_bytes(whole.getvalue()[:4000])
    saved(tmp_path / "big.png", np.zeros((30, 40), np.uint8))
    cases = {
        tmp_path / "absent.png": f"There is no picture {tmp_path}/absent.png; check the path.",
        tmp_path: f"{tmp_path} is a folder; give a picture.",
        tmp_path / "text.png": f"{tmp_path}/text.png is no picture that can be read; "
        "give JPEG, PNG, TIFF, WebP, BMP or GIF.",
        tmp_path / "half.png": f"{tmp_path}/half.png is damaged or incomplete (image file is "
        "truncated); replace the file.",
        b"": "The picture received is no picture that can be read; "
        "give JPEG, PNG, TIFF, WebP, BMP or GIF.",
    }
    for file, message in cases.items():
        with pytest.raises(ImageFileError) as caught:
            read_image(file)
        assert str(caught.value) == message
    with pytest.raises(
        ImageFileError, match=r"big.png has 40 x 30 pixels; up to 1,000 are read"
    ):
        read_image(tmp_path / "big.png", max_pixels=1000)


def test_the_environment_raises_the_limit(tmp_path, monkeypatch):
    path = saved(tmp_path / "big.png", np.zeros((30, 40), np.uint8))
    monkeypatch.setenv("DECONVNET_MAX_PIXELS", "100")
    with pytest.raises(ImageFileError, match="up to 100 are read"):
        read_image(path)
    monkeypatch.setenv("DECONVNET_MAX_PIXELS", "many")
    with pytest.raises(ImageFileError, match="DECONVNET_MAX_PIXELS is 'many'"):
        read_image(path)


def test_pillows_own_limit_stays_as_it_was(tmp_path):
    before = PIL.Image.MAX_IMAGE_PIXELS
    path = saved(tmp_path / "a.png", RED)
    threads = [threading.Thread(target=read_image, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == PIL.Image.MAX_IMAGE_PIXELS


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, 2000), byte=st.integers(0, 255), end=st.integers(0, 3000))
def test_a_damaged_file_is_a_picture_or_a_sentence(place, byte, end):
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    PIL.Image.fromarray(noise).save(whole, "PNG" if place % 2 else "JPEG")
    content = bytearray(whole.getvalue())
    content[place % len(content)] = byte
    try:
        image = read_image(bytes(content[: max(1, end)]), max_pixels=10**6)
    except ImageFileError:
        return
    assert image.shape[2] == 3


@settings(deadline=None, max_examples=30)
@given(
    label_map=arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    count=st.integers(1, 255),
)
def test_a_mask_is_a_palette_png_of_class_indices(tmp_path_factory, label_map, count):
    path = tmp_path_factory.mktemp("mask") / "a.png"
    classes = Classes.numbered(count)
    write_mask(path, label_map, classes)
    with PIL.Image.open(path) as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), label_map)
        palette = np.array(mask.getpalette()).reshape(-1, 3)
    label = int(label_map.max())
    if label < count:
        assert tuple(palette[label].tolist()) == classes.colors[label]


def test_a_mask_is_not_written_as_jpeg(tmp_path):
    with pytest.raises(OutputError, match=r"a.jpg would hold a mask; masks are PNG files"):
        write_mask(tmp_path / "a.jpg", np.zeros((2, 2), np.uint8), Classes.numbered(2))
