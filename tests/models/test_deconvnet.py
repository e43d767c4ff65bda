import pytest
import torch
from torch import nn

from deconvnet.describe import describe
from deconvnet.layers import UNPOOLING_KINDS
from deconvnet.models import build_model

# Name, kernel, output channels, output side, parameters: the layer table of the release.
PUBLISHED = """
conv1_1 3 64 224 1792
conv1_2 3 64 224 36928
pool1 2 64 112 0
conv2_1 3 128 112 73856
conv2_2 3 128 112 147584
pool2 2 128 56 0
conv3_1 3 256 56 295168
conv3_2 3 256 56 590080
conv3_3 3 256 56 590080
pool3 2 256 28 0
conv4_1 3 512 28 1180160
conv4_2 3 512 28 2359808
conv4_3 3 512 28 2359808
pool4 2 512 14 0
conv5_1 3 512 14 2359808
conv5_2 3 512 14 2359808
conv5_3 3 512 14 2359808
pool5 2 512 7 0
fc6 7 4096 1 102764544
fc7 1 4096 1 16781312
fc6_deconv 7 512 7 102760960
unpool5 2 512 14 0
deconv5_1 3 512 14 2359808
deconv5_2 3 512 14 2359808
deconv5_3 3 512 14 2359808
unpool4 2 512 28 0
deconv4_1 3 512 28 2359808
deconv4_2 3 512 28 2359808
deconv4_3 3 256 28 1179904
unpool3 2 256 56 0
deconv3_1 3 256 56 590080
deconv3_2 3 256 56 590080
deconv3_3 3 128 56 295040
unpool2 2 128 112 0
deconv2_1 3 128 112 147584
deconv2_2 3 64 112 73792
unpool1 2 64 224 0
deconv1_1 3 64 224 36928
deconv1_2 3 64 224 36928
classifier 1 21 224 1365
"""


def test_the_layers_are_those_of_the_published_table():
    with torch.device("meta"):
        network = build_model("deconvnet", 21)
    layers = [layer for layer in describe(network).layers if layer.kind != "batch_norm"]
    found = [
        f"{layer.name} {layer.kernel[0]} {layer.out_channels} {layer.out_size[0]} "
        f"{layer.parameters}"
        for layer in layers
    ]
    assert found == PUBLISHED.split("\n")[1:-1]


def test_batch_norm_follows_every_convolution_but_the_classifier():
    network = build_model("deconvnet", 3, width=1 / 64)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 29
    assert {norm.eps for norm in norms} == {1e-9}
    assert all(norm.bias.eq(0.001).all() for norm in norms)


def test_the_decoder_starts_as_published_and_the_encoder_by_he():
    network = build_model("deconvnet", 3, width=1 / 8)
    deconv = network.decoder[0].deconv5_1.deconv
    assert deconv.weight.std().item() == pytest.approx(0.01, rel=0.05)
    conv = network.encoder[4].conv5_1.conv
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    everywhere = build_model("deconvnet", 3, width=1 / 8, init="he")
    deconv = everywhere.decoder[0].deconv5_1.deconv
    assert deconv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


def test_one_picture_of_the_published_size_can_be_trained_on():
    network = build_model("deconvnet", 3, width=1 / 64).train()
    logits = network(torch.rand(1, 3, 224, 224))  # fc6 and fc7: one value per channel
    logits.square().mean().backward()
    assert torch.isfinite(logits).all()
    assert network.bottleneck.fc6.norm.running_mean.eq(0).all()
    assert network.encoder[0].conv1_1.norm.running_mean.ne(0).any()


def test_a_small_picture_gets_the_logits_of_the_same_picture_padded_to_the_least_side():
    network = build_model("deconvnet", 3, width=1 / 64).eval()
    small = torch.rand(1, 3, 50, 193)
    padded = torch.zeros(1, 3, 193, 193)
    padded[:, :, :50] = small
    with torch.inference_mode():
        torch.testing.assert_close(network(small), network(padded)[:, :, :50])


def test_the_decoder_gets_activations_only_where_the_switches_point():
    network = build_model("deconvnet", 3, width=1 / 64).eval()
    unpooled = {}
    for name, unpooling in network.unpoolings.items():
        unpooling.register_forward_hook(
            lambda _module, given, out, name=name: unpooled.update({name: (*given, out)})
        )
    with torch.inference_mode():
        network(torch.rand(1, 3, 224, 224))
    assert [given.shape[2] for given, _, _ in unpooled.values()] == [7, 14, 28, 56, 112]
    for features, switches, plane in unpooled.values():
        assert (plane != 0).sum() == (features != 0).sum()
        gathered = plane.flatten(2).gather(2, switches.positions.flatten(2))
        assert torch.equal(gathered, features.flatten(2))


@pytest.mark.parametrize("kind", UNPOOLING_KINDS)
@pytest.mark.parametrize("name", ["deconvnet", "segnet", "segnet-basic"])
def test_the_way_up_can_be_any_of_the_unpooling_family(name, kind):
    network = build_model(name, 3, width=1 / 64, unpooling=kind).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 45, 30)).shape == (1, 3, 45, 30)
