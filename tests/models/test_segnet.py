import torch
from torch import nn

from deconvnet.models import build_model, sample_dropout


def blocks(stages):
    return [name for stage in stages for name, _ in stage.named_children()]


def test_the_decoder_mirrors_the_encoder_down_to_the_names():
    network = build_model("segnet", 11, width=1 / 64)
    assert " ".join(blocks(network.decoder)) == (
        "conv5_3_D conv5_2_D conv5_1_D dropout conv4_3_D conv4_2_D conv4_1_D dropout "
        "conv3_3_D conv3_2_D conv3_1_D dropout conv2_2_D conv2_1_D conv1_2_D"
    )
    assert network.classifier.kernel_size == (3, 3)


def test_published_street_scenes_are_sized_by_their_switches():
    network = build_model("segnet", 11, width=1 / 64).eval()
    sizes = []
    for unpooling in network.unpoolings.values():
        unpooling.register_forward_hook(
            lambda _module, _given, out: sizes.append(tuple(out.shape[2:]))
        )
    with torch.inference_mode():
        network(torch.rand(1, 3, 360, 480))
    assert sizes == [(23, 30), (45, 60), (90, 120), (180, 240), (360, 480)]


def test_bayesian_segnet_drops_out_in_its_six_places():
    network = build_model("segnet-bayesian", 3, width=1 / 64)
    assert [dropout.p for dropout in network.pool_dropouts] == [0, 0, 0.5, 0.5, 0.5]
    dropping = [
        "dropout" in dict(stage.named_children()) and stage.dropout.p
        for stage in network.decoder
    ]
    assert dropping == [0.5, 0.5, 0.5, False, False]


def test_basic_can_be_bayesian_in_its_four_places():
    network = build_model("segnet-basic", 3, width=1 / 16, dropout=0.5)
    assert [dropout.p for dropout in network.pool_dropouts] == [0, 0, 0.5, 0.5]
    assert [
        any(isinstance(module, nn.Dropout) for module in stage.modules())
        for stage in network.decoder
    ] == [True, True, False, False]


def test_basic_normalises_its_pictures_and_has_no_relu_on_the_way_up():
    network = build_model("segnet-basic", 3, width=1 / 16).eval()
    assert (network.lrn.size, network.lrn.alpha, network.lrn.beta) == (5, 1e-4, 0.75)
    assert not any(isinstance(module, nn.ReLU) for module in network.decoder.modules())
    seen = []
    network.encoder[0].register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    images = torch.rand(1, 3, 4, 4) * 255
    with torch.inference_mode():
        network(images)
    power = images.square().sum(dim=1, keepdim=True)  # all 3 channels lie within a window of 5
    torch.testing.assert_close(seen[0], images * (1 + 1e-4 / 5 * power) ** -0.75)


def test_samples_differ_only_while_dropout_is_switched_on():
    network = build_model("segnet-bayesian", 3, width=1 / 16).eval()
    images = torch.rand(1, 3, 40, 40)
    with torch.inference_mode():
        with sample_dropout(network):
            first, second = network(images), network(images)
        third, fourth = network(images), network(images)
    assert not torch.equal(first, second)
    assert torch.equal(third, fourth)
