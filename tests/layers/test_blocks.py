import math

import pytest
import torch
from torch import nn

from deconvnet.layers.blocks import (
    BatchNorm,
    conv_block,
    crop_like,
    deconv_block,
    initialise_gaussian,
    initialise_he,
    initialise_zero,
    pad_to_side,
)


def test_blocks_run_convolution_then_batch_norm_then_relu():
    assert list(dict(conv_block(3, 4).named_children())) == ["conv", "norm", "relu"]
    assert list(dict(deconv_block(3, 4).named_children())) == ["deconv", "norm", "relu"]
    bare = conv_block(3, 4, batch_norm=False, relu=False, dropout=0.5)
    assert list(dict(bare.named_children())) == ["conv", "dropout"]


def test_batch_norm_trains_on_one_value_by_its_running_statistics_and_leaves_them():
    norm = BatchNorm(3)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
    features = torch.tensor([[[[2.0]], [[2.0]], [[2.0]]]], requires_grad=True)
    out = norm(features)
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0, 0.0, -1.0]), atol=1e-4, rtol=0)
    out.sum().backward()
    assert features.grad.ne(0).all()
    assert norm.running_mean.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.BatchNorm2d(3)(features)


def test_batch_norm_is_torchs_wherever_there_is_a_spread():
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    for features in (torch.rand(2, 3, 1, 1), torch.rand(1, 3, 4, 5)):
        assert torch.equal(ours(features), theirs(features))
    assert torch.equal(ours.running_var, theirs.running_var)


def assert_convolution_starts_with(module, std):
    assert module.weight.std().item() == pytest.approx(std, rel=0.1)
    assert module.weight.mean().item() == pytest.approx(0, abs=std / 5)
    assert module.bias.eq(0).all()


def test_he_initialisation_counts_what_one_output_sees():
    conv, deconv, doubling = (
        nn.Conv2d(32, 64, 3),
        nn.ConvTranspose2d(64, 16, 3),
        nn.ConvTranspose2d(64, 32, 2, 2),
    )
    initialise_he([conv, deconv, doubling])
    assert_convolution_starts_with(conv, math.sqrt(2 / (32 * 9)))
    assert_convolution_starts_with(deconv, math.sqrt(2 / (64 * 9)))
    assert_convolution_starts_with(doubling, math.sqrt(2 / 64))  # windows do not overlap


def test_gaussian_initialisation_is_caffes():
    block = deconv_block(32, 32)
    initialise_gaussian([block])
    assert_convolution_starts_with(block.deconv, 0.01)
    assert block.norm.weight.eq(1).all()
    assert block.norm.bias.eq(0.001).all()


def test_zero_initialisation_adds_nothing():
    score = nn.Conv2d(4, 2, 1)
    initialise_zero([score])
    assert score(torch.rand(1, 4, 3, 3)).eq(0).all()


@pytest.mark.parametrize("size", [(1, 1), (5, 20), (30, 3), (12, 12), (40, 41)])
def test_padding_reaches_the_least_side_and_cropping_takes_it_back(size):
    images = torch.rand(1, 2, *size)
    padded = pad_to_side(images, 12)
    assert padded.shape[2:] == (max(12, size[0]), max(12, size[1]))
    assert torch.equal(crop_like(padded, images), images)
    assert padded.sum() == pytest.approx(images.sum().item())
