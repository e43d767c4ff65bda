import math

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from deconvnet.losses import (
    border_weights,
    cross_entropy,
    dice_loss,
    distillation_loss,
    lovasz_loss,
)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    labels = torch.randint(0, 4, (2, 5, 6), generator=generator)
    labels[0, :2] = 255
    return logits, labels


def test_cross_entropy_is_the_mean_over_labelled_pixels(batch):
    logits, labels = batch
    log_p = logits.log_softmax(1)
    terms = [
        -log_p[n, labels[n, y, x], y, x]
        for n in range(2)
        for y in range(5)
        for x in range(6)
        if labels[n, y, x] != 255
    ]
    torch.testing.assert_close(cross_entropy(logits, labels), sum(terms) / len(terms))


def test_class_weights_do_not_change_what_the_loss_is_divided_by(batch):
    logits, labels = batch
    weights = torch.full((4,), 3.0)
    torch.testing.assert_close(
        cross_entropy(logits, labels, class_weights=weights), 3 * cross_entropy(logits, labels)
    )


def test_pixel_weights_scale_each_pixel(batch):
    logits, labels = batch
    weights = torch.full(labels.shape, 2.0)
    torch.testing.assert_close(
        cross_entropy(logits, labels, pixel_weights=weights), 2 * cross_entropy(logits, labels)
    )


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss, lovasz_loss])
def test_a_batch_without_labels_costs_nothing_and_gives_no_nan(loss):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((1, 4, 4), 255))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss, lovasz_loss])
def test_a_sure_and_right_network_costs_almost_nothing(loss, batch):
    _, labels = batch
    onehot = torch.nn.functional.one_hot(labels.clamp(max=3), 4).movedim(-1, 1)
    assert loss(50.0 * onehot, labels).item() < 1e-4


def test_dice_agrees_with_monai(batch):
    monai = pytest.importorskip("monai.losses")
    logits, _ = batch
    labels = torch.randint(0, 4, (2, 5, 6), generator=torch.Generator().manual_seed(4))
    theirs = monai.DiceLoss(
        softmax=True, to_onehot_y=True, batch=True, smooth_nr=0, smooth_dr=0
    )
    torch.testing.assert_close(dice_loss(logits, labels), theirs(logits, labels[:, None]))


def test_distillation_is_the_mean_divergence_from_the_teacher_over_labelled_pixels(batch):
    logits, labels = batch
    teacher = torch.randn(logits.shape, generator=torch.Generator().manual_seed(4))
    p, q = teacher.softmax(1), logits.softmax(1)
    terms = [
        sum(p[n, k, y, x] * math.log(p[n, k, y, x] / q[n, k, y, x]) for k in range(4))
        for n in range(2)
        for y in range(5)
        for x in range(6)
        if labels[n, y, x] != 255
    ]
    expected = sum(terms) / len(terms)
    torch.testing.assert_close(distillation_loss(logits, teacher, labels), expected)
    assert distillation_loss(teacher, teacher, labels).item() == 0


def test_lovasz_of_hard_predictions_is_one_minus_the_mean_iou_of_present_classes():
    labels = torch.tensor([[[0, 0, 1, 1, 1, 2]]])
    predicted = torch.tensor([[[0, 1, 1, 1, 2, 2]]])
    logits = 100.0 * torch.nn.functional.one_hot(predicted, 4).movedim(-1, 1)
    expected = 1 - np.mean([1 / 2, 2 / 4, 1 / 2])
    assert math.isclose(lovasz_loss(logits, labels).item(), expected, rel_tol=1e-5)


def test_lovasz_gradient_agrees_with_finite_differences():
    torch.manual_seed(1)
    logits = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[[0, 1, 2], [2, 255, 0]]])
    assert torch.autograd.gradcheck(lambda x: lovasz_loss(x, labels), logits)


def test_lovasz_in_float32_agrees_with_float64_where_errors_tie_and_pixels_are_ignored():
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 3, 40, 50, generator=generator)
    logits[0, :, :20] = logits[0, :, :1, :1]
    labels = torch.randint(0, 3, (2, 40, 50), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    values, gradients = [], []
    for dtype in (torch.float64, torch.float32):
        given = logits.to(dtype, copy=True).requires_grad_()
        loss = lovasz_loss(given, labels)
        loss.backward()
        values.append(loss.item())
        # Any order within a tie gives a subgradient; those of a single error are unique.
        gradients.append(torch.cat([given.grad[0, :, 20:], given.grad[1, :, 20:]]).double())
    assert math.isclose(*values, rel_tol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2e-3, atol=1e-7)


def test_border_weights_follow_the_equation_at_every_pixel():
    instances = np.zeros((30, 40), np.int32)
    instances[5:12, 4:15] = 1
    instances[14:25, 6:12] = 2
    instances[8:20, 20:30] = 7
    distances = np.sort(
        [distance_transform_edt(instances != number) for number in (1, 2, 7)], axis=0
    )
    expected = 10 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * 5.0**2))
    expected[instances > 0] = 0
    np.testing.assert_allclose(border_weights(instances), expected, atol=0.005)


def test_border_weights_of_one_object_are_zero():
    instances = np.zeros((9, 9), np.int32)
    instances[3:5, 3:5] = 4
    assert not border_weights(instances).any()
