"""Networks from Caffe's layers and back, and the same networks run by another engine."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from deconvnet.caffe import (
    CaffeModel,
    deploy_prototxt,
    read_caffemodel,
    write_caffemodel,
)
from deconvnet.caffe_networks import (
    AUTHORS_MEAN,
    CAFFE_MODELS,
    network_from_caffe,
    network_to_caffe,
)
from deconvnet.errors import CheckpointError, ShapeError
from deconvnet.labels import CAMVID, VOC
from deconvnet.models import build_model

WIDTH = 1 / 32
SIZES = {"deconvnet": 224, "segnet": 64, "segnet-bayesian": 64, "segnet-basic": 64}


def random_network(model, num_classes=5, **options):
    """With weights and statistics such that every layer matters and no signal dies."""
    if model == "deconvnet":
        options["init"] = "he"  # the published start is near zero
    network = build_model(model, num_classes, width=WIDTH, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if not module.weight.any():
                nn.init.normal_(module.weight, std=(2 / module.in_channels) ** 0.5)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.1, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.1, 0.2)
    return network


def through_a_file(tmp_path, network, model, dialect):
    layers = network_to_caffe(network, model, (SIZES.get(model, 64),) * 2)
    write_caffemodel(tmp_path / "net", layers, dialect=dialect)
    return read_caffemodel(tmp_path / "net")


def pictures(size):
    return torch.from_numpy(np.random.default_rng(1).normal(0, 1, (1, 3, size, size))).float()


def logits(network, images):
    with torch.no_grad():
        return network(images).numpy()


def assert_alive(scores):
    """A network whose signal dies gives the same anywhere, and would agree with anything."""
    assert scores.std((0, 2, 3)).min() > 0.01 * np.abs(scores).max()


# There and back


@pytest.mark.parametrize("model", CAFFE_MODELS)
def test_a_network_survives_the_way_through_a_caffemodel(tmp_path, model):
    network = random_network(model)
    dialect = "deconvnet" if model == "deconvnet" else "segnet"
    read = through_a_file(tmp_path, network, model, dialect)
    back, config = network_from_caffe(read, model)
    assert config.model == model
    assert config.options == {"width": WIDTH}
    assert len(config.classes) == 5
    assert not back.training
    images = pictures(SIZES.get(model, 64))
    expected = logits(network, images)
    assert_alive(expected)
    np.testing.assert_allclose(logits(back, images), expected, rtol=1e-3, atol=1e-4)


def test_published_sizes_give_published_classes_and_means(tmp_path):
    for model, classes in (("fcn32s", VOC), ("segnet-basic", CAMVID)):
        network = random_network(model, len(classes))
        read = through_a_file(tmp_path, network, model, "segnet")
        _, config = network_from_caffe(read, model)
        assert config.classes == classes
        assert config.std == (1 / 255,) * 3
        mean = (0.0,) * 3 if classes is CAMVID else tuple(m / 255 for m in AUTHORS_MEAN)
        assert config.mean == mean


def test_fc_channels_apart_from_the_width_are_read_off_the_file(tmp_path):
    network = random_network("deconvnet", fc_channels=24)
    read = through_a_file(tmp_path, network, "deconvnet", "deconvnet")
    assert network_from_caffe(read, "deconvnet")[1].options == {
        "width": WIDTH,
        "fc_channels": 24,
    }


def test_the_first_convolution_reads_rgb_and_nothing_else_changes(tmp_path):
    network = random_network("segnet-basic")
    read = through_a_file(tmp_path, network, "segnet-basic", "segnet")
    back, _ = network_from_caffe(read, "segnet-basic")
    blobs = read.blobs()
    weights = back.state_dict()
    first = weights["encoder.0.conv1.conv.weight"].numpy()
    np.testing.assert_array_equal(first, blobs["conv1"][0][:, ::-1])
    second = weights["encoder.1.conv2.conv.weight"].numpy()
    np.testing.assert_array_equal(second, blobs["conv2"][0])


# Batch norm


def changed(read, change):
    """The model with each layer replaced by what `change` makes of it; None drops it."""
    layers = [change(layer) for layer in read.layers]
    return CaffeModel([layer for layer in layers if layer is not None], read.name)


def with_batch_norm(read, **changes):
    return changed(
        read, lambda layer: replace(layer, **changes) if layer.type == "BN" else layer
    )


@pytest.fixture(scope="module")
def deconvnet(tmp_path_factory):
    torch.manual_seed(0)
    network = random_network("deconvnet")
    folder = tmp_path_factory.mktemp("deconvnet")
    return network, through_a_file(folder, network, "deconvnet", "deconvnet")


def test_inference_batch_norm_is_scale_and_shift_exactly(deconvnet):
    _, read = deconvnet
    network, _ = network_from_caffe(read, "deconvnet")
    scale, shift = (blob.reshape(1, -1, 1, 1) for blob in read.blobs()["bn1_1"])
    features = np.random.default_rng(0).normal(size=(1, scale.size, 4, 4)).astype(np.float32)
    normed = logits(network.encoder[0].conv1_1.norm, torch.from_numpy(features))
    np.testing.assert_allclose(normed, features * scale + shift, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", ["learn", None])
def test_batch_norm_that_learns_is_refused_with_the_remedy(deconvnet, mode):
    read = with_batch_norm(deconvnet[1], bn_mode=mode)
    with pytest.raises(CheckpointError) as caught:
        network_from_caffe(read, "deconvnet", source="stage_2.caffemodel")
    assert str(caught.value) == (
        "stage_2.caffemodel holds batch norm in mode LEARN (bn1_1, bn1_2 and 27 more): "
        "a scale and a shift, without the mean and variance that belong to them. Re-estimate "
        "these: convert with --batch-norm learn, and train from the result (init). If they "
        "are already folded in, convert with --batch-norm inference."
    )


def test_batch_norm_with_its_statistics_as_outputs_was_already_folded(deconvnet):
    """The authors' statistics scripts save the network they measured with, in mode LEARN."""
    _, read = deconvnet
    measured = with_batch_norm(read, bn_mode=None, tops=("x", "x-mean", "x-var"))
    back, _ = network_from_caffe(measured, "deconvnet")
    assert_same_network(back, network_from_caffe(read, "deconvnet")[0])


def test_either_mode_can_be_insisted_on(deconvnet):
    _, read = deconvnet
    learning = with_batch_norm(read, bn_mode="learn")
    insisted, _ = network_from_caffe(learning, "deconvnet", batch_norm="inference")
    assert_same_network(insisted, network_from_caffe(read, "deconvnet")[0])
    fresh, _ = network_from_caffe(learning, "deconvnet", batch_norm="learn")
    norm = fresh.encoder[0].conv1_1.norm
    np.testing.assert_array_equal(
        norm.weight.detach().numpy(), read.blobs()["bn1_1"][0].ravel()
    )
    assert torch.equal(norm.running_var, torch.ones_like(norm.running_var))


def assert_same_network(one, other):
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


# What does not fit


def test_what_is_missing_and_what_is_left_over_stand_in_one_error(deconvnet):
    def rename(layer):
        if layer.name == "fc7":
            return None
        return replace(layer, name="seg_x") if layer.name == "seg-score-voc" else layer

    with pytest.raises(CheckpointError) as caught:
        network_from_caffe(changed(deconvnet[1], rename), "deconvnet", source="net")
    assert str(caught.value).startswith(
        "net is not of the network deconvnet: it lacks fc7, seg-score-voc; it has besides "
        "seg_x. "
    )


def test_a_file_of_another_network_is_recognised(deconvnet):
    with pytest.raises(CheckpointError, match="those of deconvnet: give --model deconvnet"):
        network_from_caffe(deconvnet[1], "segnet")


def test_a_score_layer_for_other_classes_may_bear_their_name(deconvnet):
    def rename(layer):
        return replace(layer, name="seg-score-pets") if layer.name == "seg-score-voc" else layer

    network, config = network_from_caffe(changed(deconvnet[1], rename), "deconvnet")
    assert config.classes.names[0] == "class_0"
    assert_same_network(network, network_from_caffe(deconvnet[1], "deconvnet")[0])


def test_wrong_shapes_are_listed(deconvnet):
    def shorten(layer):
        if layer.name in ("conv2_1", "debn5_1"):
            return replace(layer, blobs=(layer.blobs[0][..., :1], layer.blobs[1]))
        return replace(layer, blobs=layer.blobs[:1]) if layer.name == "fc6" else layer

    with pytest.raises(CheckpointError) as caught:
        network_from_caffe(changed(deconvnet[1], shorten), "deconvnet", source="net")
    message = str(caught.value)
    assert message.startswith("net does not fit deconvnet: conv2_1 is (4, 2, 3, 1), not ")
    assert "fc6 has 1 blobs where 2 belong" in message


def test_weights_that_are_no_convolution_are_refused(deconvnet):
    def flatten(layer):
        blobs = tuple(blob.reshape(-1) for blob in layer.blobs)
        return replace(layer, blobs=blobs) if layer.name == "conv1_1" else layer

    with pytest.raises(CheckpointError, match="conv1_1 has weights of shape"):
        network_from_caffe(changed(deconvnet[1], flatten), "deconvnet")


# FCN


def test_the_older_fcn8s_keeps_its_learned_upsampling(tmp_path):
    network = random_network("fcn8s", learned_upsampling=True)
    nn.init.normal_(network.upscore2.weight, std=0.1)
    read = through_a_file(tmp_path, network, "fcn8s", "segnet")
    older = {
        "score_fr": "score-fr",
        "upscore2": "score2",
        "score_pool4": "score-pool4",
        "upscore_pool4": "score4",
        "score_pool3": "score-pool3",
        "upscore8": "upsample",
    }
    renamed = changed(
        read, lambda layer: replace(layer, name=older.get(layer.name, layer.name))
    )
    back, config = network_from_caffe(renamed, "fcn8s")
    assert config.options["learned_upsampling"]
    images = pictures(64)
    np.testing.assert_allclose(logits(back, images), logits(network, images), rtol=1e-5)


def test_an_upsampling_that_should_be_bilinear_and_is_not_is_refused(tmp_path):
    read = through_a_file(tmp_path, random_network("fcn32s"), "fcn32s", "segnet")
    spoiled = changed(
        read,
        lambda layer: (
            replace(layer, blobs=(layer.blobs[0] * 2,)) if layer.name == "upscore" else layer
        ),
    )
    with pytest.raises(CheckpointError, match="upscore is not the bilinear enlargement x32"):
        network_from_caffe(spoiled, "fcn32s")


def test_other_scales_than_published_go_into_the_score_weights(tmp_path):
    network = random_network("fcn8s-at-once")
    read = through_a_file(tmp_path, network, "fcn8s-at-once", "bvlc")
    doubled = changed(
        read,
        lambda layer: (
            replace(layer, blobs=(layer.blobs[0] * 2,))
            if layer.name == "scale_pool4"
            else layer
        ),
    )
    back, _ = network_from_caffe(doubled, "fcn8s-at-once")
    torch.testing.assert_close(back.score_pool4.weight, network.score_pool4.weight * 2)


# What Caffe cannot say


def test_networks_that_are_not_as_published_are_not_written():
    with pytest.raises(CheckpointError, match="unpools by nearest"):
        network_to_caffe(random_network("segnet", unpooling="nearest"), "segnet", (64, 64))
    with pytest.raises(CheckpointError, match="has batch norm"):
        network_to_caffe(random_network("fcn8s", batch_norm=True), "fcn8s", (64, 64))
    with pytest.raises(CheckpointError, match="'unet' has no Caffe release"):
        network_to_caffe(build_model("unet", 2, width=WIDTH), "unet", (64, 64))
    with pytest.raises(ShapeError, match="193 pixels or more"):
        network_to_caffe(random_network("deconvnet"), "deconvnet", (64, 224))


# The published network


def published_layers():
    """Type, name, bottoms, tops and channels of each layer with weights, pooling or unpooling.

    Read off the authors' DeconvNet_inference_deploy.prototxt; ReLUs, in place, are left out.
    """
    encoder = {1: (64, 64), 2: (128, 128), 3: (256,) * 3, 4: (512,) * 3, 5: (512,) * 3}
    decoder = {
        5: (512,) * 3,
        4: (512, 512, 256),
        3: (256, 256, 128),
        2: (128, 64),
        1: (64,) * 2,
    }
    last = "data"
    for block, widths in encoder.items():
        for place, channels in enumerate(widths, 1):
            name = f"conv{block}_{place}"
            yield "CONVOLUTION", name, [last], [name], channels
            yield "BN", f"bn{block}_{place}", [name], [name], None
            last = name
        pool = f"pool{block}"
        yield "POOLING", pool, [last], [pool, f"{pool}_mask"], None
        last = pool
    for name in ("fc6", "fc7"):
        yield "CONVOLUTION", name, [last], [name], 4096
        yield "BN", f"bn{name}", [name], [name], None
        last = name
    yield "DECONVOLUTION", "fc6-deconv", [last], ["fc6-deconv"], 512
    yield "BN", "fc6-deconv-bn", ["fc6-deconv"], ["fc6-deconv"], None
    last = "fc6-deconv"
    for block, widths in decoder.items():
        yield (
            "UNPOOLING",
            f"unpool{block}",
            [last, f"pool{block}_mask"],
            [f"unpool{block}"],
            None,
        )
        last = f"unpool{block}"
        for place, channels in enumerate(widths, 1):
            name = f"deconv{block}_{place}"
            yield "DECONVOLUTION", name, [last], [name], channels
            yield "BN", f"debn{block}_{place}", [name], [name], None
            last = name
    yield "CONVOLUTION", "seg-score-voc", [last], ["seg-score"], 21


def test_the_prototxt_we_write_for_deconvnet_is_wired_as_the_published_one():
    network = build_model("deconvnet", 21, width=1 / 32, fc_channels=4096 // 32)
    layers = network_to_caffe(network, "deconvnet", (224, 224))
    text = deploy_prototxt(layers, size=(224, 224), dialect="deconvnet")
    written = []
    for line in text.splitlines():
        kind = re.search(r"type: (\w+)", line)
        if kind is None or kind[1] == "RELU":
            continue
        named = {
            key: re.findall(rf'{key}: "([^"]+)"', line) for key in ("name", "bottom", "top")
        }
        outputs = re.search(r"num_output: (\d+)", line)
        channels = int(outputs[1]) if outputs else None
        if channels is not None and named["name"] != ["seg-score-voc"]:
            channels *= 32
        written.append((kind[1], *named["name"], named["bottom"], named["top"], channels))
    assert written == list(published_layers())
    assert re.findall(r"unpool_h: (\d+)", text) == ["14", "28", "56", "112", "224"]


# Another engine


RUN = """
import sys, cv2, numpy as np
prototxt, weights, images, out = sys.argv[1:]
cv2.setNumThreads(1)
network = cv2.dnn.readNetFromCaffe(prototxt, weights)
network.enableWinograd(False)  # its rounding flips switches in wide networks
network.setInput(np.load(images))
np.save(out, network.forward())
"""


@pytest.fixture(scope="module")
def opencv_python():
    """A Python whose OpenCV reads Caffe's files: this one, or DECONVNET_OPENCV4's."""
    candidate = os.environ.get("DECONVNET_OPENCV4", sys.executable)
    probe = "import cv2; cv2.dnn.readNetFromCaffe"
    if subprocess.run([candidate, "-c", probe], capture_output=True, check=False).returncode:
        pytest.skip(
            f"{candidate} has no OpenCV that reads Caffe (OpenCV 5 does not): set "
            "DECONVNET_OPENCV4 to a Python with opencv-python-headless<5"
        )
    return candidate


@pytest.mark.parametrize("model", [name for name in CAFFE_MODELS if name != "segnet-bayesian"])
def test_opencv_computes_the_same_from_the_files_we_write(tmp_path, opencv_python, model):
    torch.manual_seed(3)
    network = random_network(model)
    size = SIZES.get(model, 64)
    layers = network_to_caffe(network, model, (size, size))
    write_caffemodel(tmp_path / "net.caffemodel", layers, dialect="bvlc")
    (tmp_path / "net.prototxt").write_text(deploy_prototxt(layers, size=(size, size)))
    images = pictures(size)
    bgr = np.ascontiguousarray(images.numpy()[:, ::-1])
    np.save(tmp_path / "images.npy", bgr)
    names = ("net.prototxt", "net.caffemodel", "images.npy", "out.npy")
    subprocess.run(
        [opencv_python, "-c", RUN, *(str(tmp_path / name) for name in names)], check=True
    )
    theirs, ours = np.load(tmp_path / "out.npy"), logits(network, images)
    assert theirs.shape == ours.shape
    assert_alive(ours)
    same = (theirs.argmax(1) == ours.argmax(1)).mean()
    error = np.abs(theirs - ours) / np.abs(ours).max()
    assert same >= 0.999
    assert np.quantile(error, 0.999) < 1e-3  # a switch may flip between near-equal values
