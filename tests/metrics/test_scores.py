import json

import numpy as np
import pytest

from deconvnet.errors import LabelError, ShapeError
from deconvnet.metrics import ConfusionMatrix, Scores, SizeBands, boundary_f1


def drawn(count):
    random = np.random.default_rng(1)
    blocks = random.integers(0, 3, (count, 2, 4, 5)).repeat(6, axis=2).repeat(6, axis=3)
    blocks[:, 1, 0, :3] = 255
    return [tuple(pair) for pair in blocks]


def test_the_parts_are_those_of_the_single_metrics():
    pictures = drawn(3)
    scores, matrix = Scores.empty(3, background=0), ConfusionMatrix.empty(3)
    sizes = SizeBands.empty(3)
    for predicted, target in pictures:
        scores = scores.add(predicted, target)
        matrix = matrix.add(predicted, target)
        sizes = sizes.add(predicted, target, background=0)
    boundaries = [np.nanmean(boundary_f1(*picture, 3)) for picture in pictures]
    report = scores.to_json(["background", "cat", "dog"])
    assert report == {
        "mean_iou": matrix.mean_iou,
        "pixel_accuracy": matrix.pixel_accuracy,
        "mean_accuracy": matrix.mean_accuracy,
        "frequency_weighted_iou": matrix.frequency_weighted_iou,
        "boundary_f1": pytest.approx(np.mean(boundaries)),
        "iou": dict(zip(["background", "cat", "dog"], matrix.iou.tolist(), strict=True)),
        "iou_by_size": sizes.iou_by_size,
        "images": 3,
    }


def test_two_halves_of_a_data_set_add_up():
    one, two, three, four = drawn(4)
    whole = Scores.empty(3).add(*one).add(*two).add(*three).add(*four)
    halves = Scores.empty(3).add(*three).add(*four) + Scores.empty(3).add(*one).add(*two)
    expected, found = whole.to_json("abc"), halves.to_json("abc")
    assert found.pop("boundary_f1") == pytest.approx(expected.pop("boundary_f1"))
    assert found == expected


def test_a_score_that_does_not_exist_is_null_in_json():
    void = np.full((3, 3), 255)
    scores = Scores.empty(2).add(np.zeros((3, 3), dtype=int), void)
    report = json.loads(json.dumps(scores.to_json(["cat", "dog"]), allow_nan=False))
    assert report["mean_iou"] is report["boundary_f1"] is report["iou"]["cat"] is None
    assert report["images"] == 1


def test_names_that_are_too_few_are_refused_in_words():
    with pytest.raises(LabelError) as raised:
        Scores.empty(2).to_json(["cat"])
    assert str(raised.value) == "1 class names came for 2 classes; give one for each."


def test_scores_with_different_backgrounds_do_not_add():
    with pytest.raises(ShapeError, match="background classes 0 and None"):
        Scores.empty(2, background=0) + Scores.empty(2)
