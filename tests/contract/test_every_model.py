"""What holds for every network, over the dict that names them all."""

import pytest
import torch
from torch.nn import functional as F

from deconvnet.describe import describe
from deconvnet.models import MODELS, build_model

WIDTH = 1 / 64
every_model = pytest.mark.parametrize("name", MODELS)


def small(name, **options):
    """A network with nothing at zero, so that every weight matters."""
    network = build_model(name, 3, width=WIDTH, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.eq(0).all():
                parameter.uniform_(-0.5, 0.5)
    return network


@every_model
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (33, 2), (47, 50), (193, 200), (226, 31)])
def test_any_size_gives_logits_of_that_size(name, size):
    network = build_model(name, 3, in_channels=2, width=WIDTH).eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, 2, *size))
    assert logits.shape == (2, 3, *size)
    assert torch.isfinite(logits).all()


@every_model
def test_one_picture_of_one_pixel_can_be_trained_on(name):
    logits = small(name).train()(torch.rand(1, 3, 1, 1))
    logits.sum().backward()
    assert torch.isfinite(logits).all()


@every_model
def test_evaluation_repeats_itself_to_the_bit(name):
    network, images = small(name).eval(), torch.rand(1, 3, 40, 52)
    with torch.inference_mode():
        assert torch.equal(network(images), network(images))


@every_model
def test_a_picture_gets_the_same_logits_alone_and_in_a_batch(name):
    network, images = small(name).eval(), torch.rand(3, 3, 41, 38)
    with torch.inference_mode():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@every_model
def test_every_parameter_gets_a_gradient(name):
    network = small(name, dropout=0.0).train()
    logits = network(torch.rand(2, 3, 230, 230))
    (logits * torch.randn_like(logits)).sum().backward()
    without = [
        parameter_name
        for parameter_name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.ne(0).any()
    ]
    assert without == []


@every_model
def test_the_state_dict_makes_another_network_the_same(name):
    first, second = small(name), small(name)
    first.train()(torch.rand(2, 3, 64, 64))  # moves the running statistics
    second.load_state_dict(first.state_dict())
    images = torch.rand(1, 3, 40, 40)
    with torch.inference_mode():
        assert torch.equal(first.eval()(images), second.eval()(images))


@every_model
def test_the_pictures_are_left_as_they_were(name):
    network, images = small(name).eval(), torch.rand(1, 3, 40, 40)
    before = images.clone()
    with torch.inference_mode():
        network(images)
    assert torch.equal(images, before)


@every_model
def test_another_memory_layout_changes_nothing_but_rounding(name):
    network, images = small(name).eval(), torch.rand(1, 3, 40, 44)
    with torch.inference_mode():
        plain = network(images)
        other = network.to(memory_format=torch.channels_last)(
            images.contiguous(memory_format=torch.channels_last)
        )
    torch.testing.assert_close(plain, other, atol=1e-4, rtol=1e-3)


@every_model
def test_the_description_counts_every_parameter_once(name):
    network = build_model(name, 3, width=WIDTH)
    description = describe(network, (50, 60))
    assert sum(layer.parameters for layer in description.layers) == description.parameters


@every_model
def test_two_toy_pictures_are_learned(name):
    options = {"batch_norm": True} if "fcn" in name or "unet" in name else {}
    network = build_model(name, 2, width=1 / 16, dropout=0.0, **options)
    images = torch.zeros(2, 3, 64, 64)
    images[0, :, :, :30] = 1.0
    images[1, :, 38:, :] = 1.0
    labels = images[:, 0].long()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        if loss < 0.2:
            break
    assert loss < 0.2
