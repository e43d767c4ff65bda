import itertools
from dataclasses import replace

import pytest
import torch

from deconvnet.checkpoint import build_network, load_checkpoint
from deconvnet.kernels import winograd
from deconvnet.kernels.training import native_operations
from deconvnet.models import build_model
from deconvnet.recipe import Recipe
from deconvnet.train import train
from deconvnet.training.recompute import recompute_stages


def gradients(network, images):
    torch.manual_seed(3)
    network(images).square().mean().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def pair(model, **options):
    """Two equal networks in training mode, the second with recomputed stages."""
    networks = []
    for _ in range(2):
        torch.manual_seed(0)
        networks.append(build_model(model, 3, width=1 / 32, **options).train())
    return networks


@pytest.mark.parametrize(
    ("model", "side"),
    [("deconvnet", 200), ("segnet-bayesian", 50), ("unet", 50), ("fcn8s", 50)],
)
def test_gradients_and_statistics_are_the_same_bit_for_bit(model, side):
    plain, thrifty = pair(model, **({"batch_norm": True} if model in {"unet", "fcn8s"} else {}))
    recompute_stages(thrifty)
    images = torch.rand(2, 3, side, side)
    expected, found = gradients(plain, images), gradients(thrifty, images)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    state = thrifty.state_dict()  # running statistics and their counts among it
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items())


def test_less_is_kept_for_the_way_back():
    def kept(network):
        """Bytes held for the gradients, and the inputs that recomputed stages hold."""
        held = {}

        def note(tensor):
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        def note_input(_stage, inputs):
            note(inputs[0])

        stages = itertools.chain(network.encoder, network.decoder)
        hooks = [stage.register_forward_pre_hook(note_input) for stage in stages]
        own = {p.untyped_storage().data_ptr() for p in network.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            network(torch.rand(1, 3, 96, 96)).sum()
        for hook in hooks:
            hook.remove()
        return sum(size for place, size in held.items() if place not in own)

    plain, thrifty = pair("segnet")
    recompute_stages(thrifty)
    assert kept(thrifty) < 0.6 * kept(plain)


@pytest.mark.slow
@pytest.mark.skipif(not winograd.is_available(), reason="there is no C++ compiler")
def test_it_works_with_the_native_kernels_and_their_switches():
    found = []
    for recomputed in (False, True):
        torch.manual_seed(0)
        network = build_model("segnet", 3, width=1 / 4).train()
        if recomputed:
            recompute_stages(network, native=True)
        torch.manual_seed(3)
        with native_operations():
            logits = network(torch.linspace(0, 1, 3 * 64 * 64).view(1, 3, 64, 64).sin())
        logits.square().mean().backward()
        found.append([parameter.grad for parameter in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_recipe_that_recomputes_trains_the_same_network(tmp_path):
    recipe = Recipe(
        model="unet",
        width=1 / 32,
        batch_norm=True,
        dropout=0.3,
        data="scenes:size=48,count=3",
        crop_size=32,
        batch_size=2,
        steps=2,
        val_pictures=1,
        ema=0.5,
        auxiliary=0.5,
        freeze="encoder.0",
    )
    for name in ("plain", "thrifty"):
        given = replace(recipe, recompute=name == "thrifty")
        train(given, out=tmp_path / name, device="cpu", quiet=True)
    plain, thrifty = (load_checkpoint(tmp_path / n / "last") for n in ("plain", "thrifty"))
    state = thrifty.network.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in plain.network.state_dict().items())
    assert build_network(thrifty.config).state_dict().keys() == state.keys()
