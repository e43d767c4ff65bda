import pytest
import torch
from torch import nn

from deconvnet.errors import CheckpointError
from deconvnet.models import build_model, load_vgg16
from deconvnet.models.vgg import VGG16

WIDTH = 1 / 16
LOADED = [
    *(
        f"conv{stage}_{index}"
        for stage in (1, 2, 3, 4, 5)
        for index in (1, 2, 3)[: 2 + (stage > 2)]
    ),
    "fc6",
    "fc7",
]


class SmallVGG(nn.Module):
    """VGG-16 as torchvision lays it out, 1/16 as wide."""

    def __init__(self, batch_norm):
        super().__init__()
        layers, channels = [], 3
        for stage in VGG16:
            for published in stage:
                width = round(published * WIDTH)
                layers.append(nn.Conv2d(channels, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width)] if batch_norm else []
                layers.append(nn.ReLU())
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, 256),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(256, 256),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(256, 10),
        )
        for module in self.modules():  # as if trained
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                nn.init.normal_(module.bias)
                nn.init.uniform_(module.weight, 0.5, 2)


def fc7_of(vgg, images):
    return vgg.classifier[:5](vgg.features(images).flatten(1))


@pytest.mark.parametrize("file_has_norm", [False, True])
@pytest.mark.parametrize("name", ["deconvnet", "fcn8s"])
def test_the_loaded_network_computes_what_vgg_computes(name, file_has_norm):
    vgg = SmallVGG(file_has_norm).eval()
    network = build_model(name, 3, width=WIDTH).eval()
    assert load_vgg16(network, vgg.state_dict()) == LOADED
    images = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        expected, features = vgg.features(images), images
        network.encoder[0].conv1_1.conv.padding = (1, 1)  # FCN's 100 would shift the windows
        for stage in network.encoder:
            features = nn.functional.max_pool2d(stage(features), 2)
        # Without batch norm in the file, DeconvNet's own starts as 1 x + 0.001.
        near = 1e-4 if name == "fcn8s" or file_has_norm else 0.05
        torch.testing.assert_close(features, expected, atol=near, rtol=near)
        if name == "fcn8s":
            torch.testing.assert_close(
                network.bottleneck(features).flatten(1),
                fc7_of(vgg, images),
                atol=1e-4,
                rtol=1e-4,
            )


def test_segnet_takes_the_convolutions_alone():
    network = build_model("segnet", 3, width=WIDTH)
    assert load_vgg16(network, SmallVGG(True).state_dict()) == LOADED[:-2]


def test_fc6_and_fc7_can_be_left_out():
    network = build_model("deconvnet", 3, width=WIDTH, fc_channels=8)
    assert (
        load_vgg16(network, SmallVGG(False).state_dict(), fully_connected=False) == LOADED[:-2]
    )


def message_of(network, state_dict):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_vgg16(network, state_dict)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    return str(caught.value)


def test_weights_that_do_not_fit_are_refused_before_anything_changes():
    state = SmallVGG(False).state_dict()
    assert message_of(build_model("segnet", 3, in_channels=1, width=WIDTH), state) == (
        "conv1_1 of these weights has the shape (4, 3, 3, 3), and this network's has (4, 1, 3, "
        "3); VGG-16 fits networks of width 1 with 3 input channels."
    )
    assert message_of(build_model("deconvnet", 3, width=WIDTH, fc_channels=8), state) == (
        "fc6 of these weights has the shape (256, 32, 7, 7), and this network's has (8, 32, 7, "
        "7); set fc_channels to 256, or load with fully_connected=False."
    )
    del state["features.2.bias"]
    assert message_of(build_model("segnet", 3, width=WIDTH), state) == (
        "these weights have no 'features.2.bias'; take a file of torchvision's vgg16 or "
        "vgg16_bn (features.0.weight, ..., classifier.3.bias)."
    )
    assert message_of(build_model("unet", 3, width=WIDTH), state) == (
        "UNet has no VGG-16 encoder; ImageNet weights of VGG-16 fit deconvnet, segnet and "
        "the FCNs."
    )
