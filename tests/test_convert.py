"""Files of other libraries into checkpoints."""

import numpy as np
import pytest
import torch
from torch import nn

from deconvnet.caffe import CaffeLayer, read_caffemodel, write_caffemodel
from deconvnet.caffe_networks import network_to_caffe
from deconvnet.checkpoint import load_checkpoint, read_weights
from deconvnet.convert import convert, vgg16_from_caffe
from deconvnet.errors import CheckpointError
from deconvnet.models import IMAGENET_STD, build_model, load_vgg16
from deconvnet.models.vgg import VGG16

WIDTH = 1 / 32


@pytest.fixture(scope="module")
def segnet_file(tmp_path_factory):
    torch.manual_seed(0)
    network = build_model("segnet", 11, width=WIDTH).eval()
    path = tmp_path_factory.mktemp("segnet") / "camvid.caffemodel"
    write_caffemodel(path, network_to_caffe(network, "segnet", (64, 64)), dialect="segnet")
    return network, path


def vgg16_layers(width=WIDTH, *, legacy=False):
    """VGG-16 as Caffe keeps it: fc6 as a convolution, or fully connected (older files)."""
    generator = np.random.default_rng(0)
    layers, channels = [], 3
    rows = [
        (f"conv{stage}_{index}", max(1, round(size * width)), 3)
        for stage, row in enumerate(VGG16, start=1)
        for index, size in enumerate(row, start=1)
    ]
    for name, outputs, kernel in [*rows, ("fc6", 128, 7), ("fc7", 128, 1), ("fc8", 10, 1)]:
        weight = generator.normal(size=(outputs, channels, kernel, kernel)).astype(np.float32)
        kind = "Convolution"
        if legacy and name.startswith("fc"):
            weight, kind = weight.reshape(1, 1, outputs, -1), "InnerProduct"
        bias = generator.normal(size=outputs).astype(np.float32)
        layers.append(CaffeLayer(name, kind, blobs=(weight, bias)))
        channels = outputs
    return layers


def test_a_caffemodel_becomes_a_checkpoint_that_predicts_the_same(tmp_path, segnet_file):
    network, path = segnet_file
    folder = convert(path, "segnet", tmp_path / "out")
    checkpoint = load_checkpoint(folder)
    assert checkpoint.config.classes.names[1] == "building"
    assert checkpoint.config.mean == (0.0, 0.0, 0.0)
    assert checkpoint.config.std == (1 / 255,) * 3
    images = torch.randn(1, 3, 48, 80)
    with torch.no_grad():
        torch.testing.assert_close(
            checkpoint.network(images), network(images), rtol=1e-4, atol=1e-5
        )
    card = (folder / "README.md").read_text()
    assert "`camvid.caffemodel`" in card
    assert "terms" in card


def test_segnet_weights_serve_bayesian_segnet_too(tmp_path, segnet_file):
    folder = convert(segnet_file[1], "segnet-bayesian", tmp_path)
    dropouts = [
        m.p for m in load_checkpoint(folder).network.modules() if isinstance(m, nn.Dropout)
    ]
    assert dropouts.count(0.5) == 6


def test_another_number_of_classes_than_the_file_has_is_refused(tmp_path, segnet_file):
    with pytest.raises(CheckpointError, match="has 11 classes, not the 21 asked for"):
        convert(segnet_file[1], "segnet", tmp_path / "out", num_classes=21)
    assert not (tmp_path / "out").exists()


def test_an_unknown_network_is_refused_with_those_there_are(tmp_path, segnet_file):
    with pytest.raises(CheckpointError, match=r"'segnt' is not .* Did you mean 'segnet'\?"):
        convert(segnet_file[1], "segnt", tmp_path)


@pytest.mark.parametrize("model", ["unet", "deconvnet", "segnet-basic", "vgg16"])
def test_a_file_of_another_network_is_refused(tmp_path, segnet_file, model):
    with pytest.raises(CheckpointError, match=r"is not"):
        convert(segnet_file[1], model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_vgg16_of_caffe_starts_a_network_as_torchvisions_does(tmp_path, legacy):
    layers = vgg16_layers(legacy=legacy)
    write_caffemodel(tmp_path / "vgg.caffemodel", layers, dialect="deconvnet")
    file = convert(tmp_path / "vgg.caffemodel", "vgg16", tmp_path / "out")
    assert file.name == "vgg16.safetensors"
    weights = read_weights(file)
    network = build_model("fcn32s", 5, width=WIDTH)
    loaded = load_vgg16(network, weights)
    assert loaded[0] == "conv1_1"
    assert loaded[-1] == "fc7"
    first = network.encoder[0].conv1_1.conv.weight.detach().numpy()
    scale = 255 * np.array(IMAGENET_STD, np.float32)[:, None, None]
    np.testing.assert_allclose(first, layers[0].blobs[0][:, ::-1] * scale, rtol=1e-6)
    fc6 = network.bottleneck.fc6.conv.weight.detach().numpy()
    np.testing.assert_array_equal(fc6.ravel(), layers[13].blobs[0].ravel())


def test_a_vgg16_file_given_for_a_whole_network_is_recognised(tmp_path):
    write_caffemodel(tmp_path / "vgg.caffemodel", vgg16_layers())
    with pytest.raises(CheckpointError, match=r"like VGG-16: give --model vgg16"):
        convert(tmp_path / "vgg.caffemodel", "fcn8s", tmp_path)


def test_what_a_file_lacks_of_vgg16_is_listed(tmp_path):
    layers = [layer for layer in vgg16_layers() if layer.name not in ("conv3_2", "fc7")]
    write_caffemodel(tmp_path / "part.caffemodel", layers)
    with pytest.raises(CheckpointError, match=r"is not VGG-16: .* conv3_2, conv3_3, fc7\."):
        vgg16_from_caffe(read_caffemodel(tmp_path / "part.caffemodel"), "part.caffemodel")


@pytest.mark.slow
def test_torchvisions_vgg16_becomes_a_start_for_training(tmp_path):
    torch.save(torchvision_weights(), tmp_path / "vgg16.pth")
    folder = convert(tmp_path / "vgg16.pth", "segnet", tmp_path / "out", num_classes=4)
    checkpoint = load_checkpoint(folder)
    assert len(checkpoint.config.classes) == 4
    assert "Only the encoder is trained" in (folder / "README.md").read_text()


def torchvision_weights():
    weights, index, channels = {}, 0, 3
    for row in VGG16:
        for outputs in row:
            weights[f"features.{index}.weight"] = torch.randn(outputs, channels, 3, 3) / 50
            weights[f"features.{index}.bias"] = torch.zeros(outputs)
            index, channels = index + 2, outputs
        index += 1
    return weights


@pytest.mark.parametrize("model", ["segnet-basic", "vgg16"])
def test_networks_without_the_encoder_do_not_start_from_torchvisions_file(tmp_path, model):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg16.pth")
    with pytest.raises(CheckpointError, match="starts deconvnet, segnet or an FCN"):
        convert(tmp_path / "vgg16.pth", model, tmp_path / "out")
