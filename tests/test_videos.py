import csv
import json
import re

import numpy as np
import PIL.Image
import pytest
import torch

from deconvnet import videos
from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.cli import main
from deconvnet.data.scenes import SCENES, Scenes
from deconvnet.errors import ImageFileError, MissingExtraError, RecipeError
from deconvnet.predict import load
from deconvnet.videos import VideoOptions, check_video, opened_video, predict_video

cv2 = pytest.importorskip("cv2")
FRAMES = 9


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("film")
    config = Config("unet", SCENES, {"width": 1 / 32, "batch_norm": True})
    save_checkpoint(folder / "net", build_network(config), config)
    writer = cv2.VideoWriter(
        str(folder / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 12.0, (64, 48)
    )
    for sample in Scenes("val", count=FRAMES, size=(48, 64)):
        writer.write(np.ascontiguousarray(sample.image[:, :, ::-1]))
    writer.release()
    return folder


def frames_of(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            break
        frames.append(frame[:, :, ::-1])
    rate = capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return frames, rate


def test_a_film_becomes_a_film_of_overlays_and_a_table(place, tmp_path):
    segment = load(place / "net")
    share = predict_video(segment, place / "film.avi", tmp_path / "a" / "film", quiet=True)
    drawn, rate = frames_of(tmp_path / "a" / "film.overlay.mp4")
    seen, _ = frames_of(place / "film.avi")
    assert len(drawn) == FRAMES
    assert rate == pytest.approx(12)
    expected = np.array(segment(np.ascontiguousarray(seen[4])).overlay()).astype(int)
    assert np.abs(drawn[4].astype(int) - expected).mean() < 12  # the film is compressed
    assert np.abs(drawn[4].astype(int) - expected[..., ::-1]).mean() > 12  # RGB, not BGR
    with (tmp_path / "a" / "film.frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == [str(number) for number in range(FRAMES)]
    assert float(rows[6]["seconds"]) == pytest.approx(0.5)
    means = {name: np.mean([float(row[name]) for row in rows]) for name in SCENES.names}
    assert share == pytest.approx(means, abs=1e-5)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "film.frames.csv",
        "film.overlay.mp4",
    ]


def test_every_third_frame_with_its_mask_up_to_a_number(place, tmp_path):
    options = VideoOptions(every=3, max_frames=2, masks=True)
    segment = load(place / "net")
    predict_video(segment, place / "film.avi", tmp_path / "film", options, quiet=True)
    drawn, rate = frames_of(tmp_path / "film.overlay.mp4")
    assert len(drawn) == 2
    assert rate == pytest.approx(4)
    assert sorted(p.name for p in (tmp_path / "film").iterdir()) == [
        "000000.mask.png",
        "000003.mask.png",
    ]
    seen, _ = frames_of(place / "film.avi")
    mask = np.array(PIL.Image.open(tmp_path / "film" / "000003.mask.png"))
    np.testing.assert_array_equal(mask, segment(np.ascontiguousarray(seen[3])).label_map)


def test_frames_are_read_when_they_are_asked_for(place):
    with opened_video(place / "film.avi", VideoOptions()) as film:
        assert film.length == FRAMES
        number, frame = next(film.frames)
        assert (number, frame.shape) == (0, (48, 64, 3))
        assert next(film.frames)[0] == 1


def test_a_camera_ends_by_ctrl_c_and_its_film_is_kept(place, tmp_path, monkeypatch, capsys):
    real = cv2.VideoCapture
    monkeypatch.setattr(
        cv2,
        "VideoCapture",
        lambda where: real(str(place / "film.avi") if where == 0 else where),
    )
    segment, seen = load(place / "net"), []

    def interrupted(frame):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(frame.shape)
        return segment(frame)

    predict_video(interrupted, "camera:0", tmp_path / "camera-0")
    assert len(frames_of(tmp_path / "camera-0.overlay.mp4")[0]) == 4
    assert "ended after 4 frames; the film is kept" in capsys.readouterr().err


def test_a_film_that_is_interrupted_leaves_nothing(place, tmp_path):
    def interrupted(_frame):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_video(interrupted, place / "film.avi", tmp_path / "film", quiet=True)
    assert not list(tmp_path.iterdir())


def test_the_command_takes_pictures_and_films_together_and_resumes(place, tmp_path, capsys):
    PIL.Image.new("RGB", (30, 20)).save(tmp_path / "still.png")
    out = tmp_path / "out"
    words = [
        "predict",
        str(place / "net"),
        str(tmp_path / "still.png"),
        str(place / "film.avi"),
    ]
    words += ["--out", str(out), "--every", "4", "--threads", "1"]
    assert main(words) == 0
    first = capsys.readouterr()
    assert "frames/s" in first.err or "film.avi 3/3" in first.err
    assert len(first.out.splitlines()) == 2
    assert (out / "still.mask.png").is_file()
    shares = (out / "shares.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in shares] == ["picture", "still", "film"]
    when = (out / "film.overlay.mp4").stat().st_mtime_ns
    assert main([*words, "--resume"]) == 0
    assert capsys.readouterr().out == first.out
    assert (out / "film.overlay.mp4").stat().st_mtime_ns == when
    entries = (out / "finished.jsonl").read_text().splitlines()[1:]
    assert [json.loads(line)["name"] for line in entries] == ["still", "film"]


@pytest.mark.parametrize(
    ("where", "options", "error", "sentence"),
    [
        ("missing.mp4", VideoOptions(), ImageFileError, "There is no film"),
        ("text.mp4", VideoOptions(), ImageFileError, "cannot be opened as a film"),
        ("film.avi", VideoOptions(every=0), RecipeError, "--every is 0"),
        ("film.avi", VideoOptions(max_frames=0), RecipeError, "--max_frames is 0"),
    ],
)
def test_what_is_no_film_is_refused_in_words(place, where, options, error, sentence):
    (place / "text.mp4").write_text("no film")
    with pytest.raises(error, match=sentence):
        check_video(place / where, options)


def test_a_camera_without_a_number_and_a_machine_without_opencv(monkeypatch):
    with pytest.raises(RecipeError, match="write camera:0 for the first"):
        check_video("camera:front", VideoOptions())
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(MissingExtraError, match="needs the extra 'proposals'"):
        videos.check_video("camera:0", VideoOptions())


def test_a_film_that_breaks_off_is_said_to(tmp_path, place, capsys):
    whole = (place / "film.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: int(0.6 * len(whole))])
    predict_video(load(place / "net"), tmp_path / "cut.avi", tmp_path / "cut", quiet=True)
    assert re.search(
        r"cut.avi ended after \d+ of \d+ frames; it may be", capsys.readouterr().err
    )
