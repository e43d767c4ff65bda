"""The contract of `accelerate`: another engine, the same answers."""

import copy
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from deconvnet import engines
from deconvnet.data.scenes import Scenes
from deconvnet.engines import accelerate, openvino
from deconvnet.errors import MissingExtraError, RecipeError, UserError
from deconvnet.kernels import winograd
from deconvnet.layers import Switches, pool, unpool
from deconvnet.models import MODELS, build_model, sample_dropout
from deconvnet.predict import load


def small_network(name: str, width: float = 1 / 16) -> nn.Module:
    """A network of the real kind whose every weight, mean and variance matters."""
    fully_connected = name == "deconvnet" or name.startswith("fcn")
    options = {"fc_channels": 24} if fully_connected else {}
    network = build_model(name, 5, width=width, **options)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network


def assert_same_answers(
    fast: nn.Module, network: nn.Module, images: torch.Tensor, tolerance: float = 1e-5
) -> None:
    """Against the network in float64, in which no switch is near to flipping by rounding."""
    exact = copy.deepcopy(network).double().eval()
    with torch.no_grad():
        expected = exact(images.double())
    logits = fast(images)
    assert logits.shape == expected.shape
    assert logits.dtype == images.dtype
    assert logits.is_contiguous()
    assert (logits - expected).abs().max() <= tolerance * expected.abs().max()
    assert (logits.argmax(1) == expected.argmax(1)).float().mean() > 0.999


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("name", MODELS)
def test_every_network_answers_as_before_at_any_size(name, engine):
    network = small_network(name)
    fast = accelerate(network, engine)
    for size in ((2, 37, 224), (1, 201, 50)):
        assert_same_answers(fast, network, torch.randn(size[0], 3, *size[1:]))


def test_a_map_of_many_windows_is_no_obstacle():
    network = small_network("deconvnet")
    images = torch.randn(1, 3, 480, 540)  # fc6 sees 9 x 11 windows
    assert_same_answers(accelerate(network), network, images)


@pytest.mark.parametrize("kind", ["nails", "average", "subpixel", "transposed"])
def test_every_unpooling_answers_as_before(kind):
    network = build_model("segnet-basic", 3, width=1 / 16, unpooling=kind)
    assert_same_answers(accelerate(network), network, torch.randn(1, 3, 33, 46))


@pytest.mark.parametrize("threads", [1, 2])
def test_our_own_kernels_answer_as_before_in_wider_networks(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    network = small_network("unet", width=1 / 4)
    fast = accelerate(network, "native")
    assert any("Winograd" in type(step).__name__ for step in fast.modules())
    assert_same_answers(fast, network, torch.randn(2, 3, 70, 51))
    torch.set_num_threads(before)


def test_without_a_compiler_the_engine_torch_does_the_work(monkeypatch):
    monkeypatch.setattr(winograd, "is_available", lambda: False)
    network = small_network("segnet-basic")
    assert_same_answers(accelerate(network, "native"), network, torch.randn(1, 3, 20, 20))


def test_our_own_kernels_refuse_other_types_in_words():
    with pytest.raises(RecipeError, match="the engine 'native' computes in float32 on the CPU"):
        accelerate(nn.Conv2d(3, 2, 1).double(), "native")


class JoinsManyThings(nn.Module):
    """A network of a user, which joins and pools also what is no batch of maps."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(32, 4, 1)

    def forward(self, images):
        features = self.first(images)
        means = features.mean((2, 3))
        joined = torch.cat([means, means], dim=1).sum()
        counts = torch.cat([torch.ones(2, 1, dtype=torch.long)] * 2, 1).sum()
        pooled = nn.functional.max_pool2d(features[0], 2, ceil_mode=True).sum()
        return self.last(torch.cat((features, features), axis=1)) + joined + counts + pooled


def test_our_own_kernels_leave_to_torch_what_is_no_batch_of_maps():
    network, images = JoinsManyThings().eval(), torch.randn(2, 3, 8, 8)
    fast = accelerate(network, "native")
    assert (fast(images) - network(images)).abs().max() <= 1e-4 * network(images).abs().max()


class RecordedOperations(TorchDispatchMode):
    """Notes the names of what torch computes itself."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("depth", [4, 5, 6])
def test_our_own_kernels_do_every_step_of_a_unet(depth):
    network = build_model("unet", 5, width=1 / 4, batch_norm=True, depth=depth)
    images = torch.randn(2, 3, 70, 51)
    fast = accelerate(network, "native")
    assert_same_answers(fast, network.eval(), images)
    with RecordedOperations() as recorded:
        fast(images)
    steps = {"convolution", "max_pool2d_with_indices", "cat", "relu", "native_batch_norm"}
    assert not recorded.names & steps


@settings(deadline=None, max_examples=25)
@given(
    kernel=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.integers(1, 2),
    stride=st.integers(1, 2),
    groups=st.integers(1, 2),
    bias=st.booleans(),
    affine=st.booleans(),
    transposed=st.booleans(),
)
def test_any_convolution_with_batch_norm_is_folded_rightly(
    kernel, padding, dilation, stride, groups, bias, affine, transposed
):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv = kind(4, 6, kernel, stride, padding, dilation=dilation, groups=groups, bias=bias)  # type: ignore[operator]
    norm = nn.BatchNorm2d(6, affine=affine)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norm.running_mean)
    network = nn.Sequential(conv, norm, nn.ReLU()).eval()
    images = torch.randn(2, 4, 14, 17)
    assert_same_answers(accelerate(network), network, images)


def test_what_is_used_twice_is_left_alone():
    shared = nn.Conv2d(3, 3, 3, padding=1)
    norms = [nn.BatchNorm2d(3), nn.BatchNorm2d(3)]
    nn.init.constant_(norms[0].running_var, 4.0)
    network = nn.Sequential(
        nn.Sequential(shared, norms[0], nn.ReLU()), nn.Sequential(shared, norms[1])
    )
    assert_same_answers(accelerate(network), network, torch.randn(1, 3, 6, 6))


def test_a_lone_layer_is_a_network_too():
    network = nn.ConvTranspose2d(3, 2, 3)
    assert_same_answers(accelerate(network), network, torch.randn(1, 3, 6, 6))


def test_relu_does_not_overwrite_what_others_still_need():
    network = nn.Sequential(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 2, 1)))
    images = torch.randn(1, 3, 4, 4)
    before = images.clone()
    accelerate(network)(images)
    assert torch.equal(images, before)


def test_the_network_itself_stays_as_it_is():
    network = small_network("deconvnet").train()
    before = copy.deepcopy(network.state_dict())
    formats = [weight.stride() for weight in network.parameters()]
    accelerate(network)(torch.randn(1, 3, 20, 20))
    assert network.training
    assert all(weight.requires_grad for weight in network.parameters())
    assert [weight.stride() for weight in network.parameters()] == formats
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_twin_does_not_follow_the_network():
    network = small_network("segnet-basic")
    fast = accelerate(network)
    images = torch.randn(1, 3, 16, 16)
    before = fast(images)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    assert torch.equal(fast(images), before)


def test_train_mode_changes_nothing():
    network = small_network("segnet-bayesian")
    fast = accelerate(network)
    images = torch.randn(1, 3, 32, 32)
    before = fast(images)
    assert torch.equal(fast.train()(images), before)
    assert not fast.training


def test_answers_are_ordinary_tensors():
    logits = accelerate(small_network("unet"))(torch.randn(1, 3, 16, 16))
    logits += 1  # not so in torch.inference_mode
    assert not logits.requires_grad


def test_gradients_are_refused_in_words():
    fast = accelerate(small_network("unet"))
    images = torch.randn(1, 3, 16, 16, requires_grad=True)
    with pytest.raises(UserError, match="an accelerated network gives no gradients"):
        fast(images)
    with torch.no_grad():
        fast(images)


def test_dropout_can_be_sampled():
    fast = accelerate(small_network("segnet-bayesian"))
    images = torch.randn(1, 3, 32, 32)
    with sample_dropout(fast):
        first, second = fast(images), fast(images)
    assert not torch.equal(first, second)
    assert torch.equal(fast(images), fast(images))


def test_a_large_batch_is_run_in_parts(monkeypatch):
    network = small_network("unet")
    images = torch.randn(5, 3, 16, 16)
    whole = accelerate(network)(images)
    monkeypatch.setattr(engines, "BATCH_PIXELS", 2 * 16 * 16)
    fast = accelerate(network)
    sizes = []
    fast.network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    torch.testing.assert_close(fast(images), whole)
    assert sizes == [2, 2, 1]


def test_a_network_in_float64_stays_so():
    network = small_network("deconvnet").double()
    images = torch.randn(1, 3, 40, 30, dtype=torch.float64)
    assert_same_answers(accelerate(network), network, images, tolerance=1e-12)


def test_an_unknown_engine_is_refused_in_words():
    with pytest.raises(RecipeError, match="there is no engine 'torhc'; the engines are torch"):
        accelerate(nn.Identity(), "torhc")


def test_an_unknown_precision_is_refused_in_words():
    with pytest.raises(RecipeError, match="does not compute in precision 'fp16'; take 'fp32'"):
        accelerate(nn.Identity(), precision="fp16")


def test_a_twin_has_no_twin():
    with pytest.raises(RecipeError, match="accelerated already"):
        accelerate(accelerate(nn.Conv2d(3, 2, 1)))


@pytest.mark.usefixtures("_unchecked_shapes")
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_openvino_answers_as_before_at_any_size(name):
    pytest.importorskip("openvino")
    network = small_network(name)
    fast = accelerate(network, "openvino")
    for size in ((2, 3, 224, 224), (1, 3, 201, 50), (3, 3, 33, 33), (1, 3, 227, 226)):
        assert_same_answers(fast, network, torch.randn(size))


def test_what_openvino_cannot_convert_is_refused_in_words():
    pytest.importorskip("openvino")
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.FractionalMaxPool2d(2, output_ratio=0.7))
    with pytest.raises(RecipeError, match="OpenVINO cannot convert this network"):
        accelerate(network, "openvino")


def test_openvino_refuses_to_sample_dropout():
    pytest.importorskip("openvino")
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Dropout(0.5))
    fast = accelerate(network, "openvino")
    with sample_dropout(fast), pytest.raises(RecipeError, match="cannot sample dropout"):
        fast(torch.zeros(1, 3, 4, 4))


def test_without_openvino_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deconvnet\[openvino\]'"):
        accelerate(nn.Conv2d(3, 2, 1), "openvino")


@given(size=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_switches_as_corners_are_the_switches(size, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randint(-1, 2, (2, 3, *size), generator=generator).float()  # with ties
    pooled, switches = pool(features)
    best, corners = openvino._pool_by_corners(features, 2)
    assert torch.equal(best, pooled)
    again = openvino._SelectUnpooling()(best, Switches(corners.long(), switches.size))
    assert torch.equal(again, unpool(pooled, switches))


@pytest.mark.usefixtures("_unchecked_shapes")
@pytest.mark.parametrize(
    "pooling",
    [nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(3, 2, padding=1)],
    ids=["edges kept", "overlapping"],
)
def test_openvino_pools_a_single_row_and_never_answers_for_the_picture_before(pooling):
    pytest.importorskip("openvino")
    network = nn.Sequential(nn.Conv2d(3, 4, 1), pooling).eval()
    fast = accelerate(network, "openvino")
    least = 2 if pooling.kernel_size == 2 and not pooling.ceil_mode else 1
    for size in ((7, 6), (least, 6), (9, least), (least, least), (8, 5)):
        assert_same_answers(fast, network, torch.randn(1, 3, *size))


@pytest.mark.slow
@pytest.mark.usefixtures("_unchecked_shapes")
def test_int8_is_near_to_fp32_and_any_size_goes():
    pytest.importorskip("nncf")
    network = small_network("segnet-basic", width=1 / 4)
    pictures = [torch.randn(1, 3, 48, 40) for _ in range(4)]
    fast = accelerate(network, "openvino", precision="int8", calibration=iter(pictures))
    for size in ((1, 3, 48, 40), (2, 3, 37, 51)):
        images = torch.randn(size)
        with torch.no_grad():
            expected = network.eval()(images)
        logits = fast(images)
        assert logits.shape == expected.shape
        assert 0.5 < (logits.argmax(1) == expected.argmax(1)).float().mean() < 1


@pytest.mark.parametrize("name", ["unet-camvid", "fcn8s-camvid"])
def test_trained_networks_give_nearly_the_same_classes_in_int8(name):
    pytest.importorskip("nncf")
    pictures = [sample.image for sample in Scenes("train", count=4, size=(90, 120))]
    plain, small = (
        load(name),
        load(name, engine="openvino", precision="int8", calibration=pictures),
    )
    same = [(plain(p).label_map == small(p).label_map).mean() for p in pictures]
    assert min(same) > 0.85


def test_int8_needs_openvino_and_pictures():
    with pytest.raises(RecipeError, match="'torch' does not compute in precision 'int8'"):
        accelerate(nn.Identity(), precision="int8")
    pytest.importorskip("nncf")
    with pytest.raises(RecipeError, match="'int8' needs pictures to measure the range"):
        accelerate(nn.Conv2d(3, 2, 1), "openvino", precision="int8")


@pytest.mark.parametrize("engine", ["torch", "native"])
@pytest.mark.parametrize("name", MODELS)
def test_eight_odd_pictures_at_once_get_the_same_classes(name, engine):
    network = small_network(name).eval()
    images = torch.randn(8, 3, 37, 41)
    with torch.no_grad():
        expected = network(images)
    logits = accelerate(network, engine)(images)
    assert (logits.argmax(1) == expected.argmax(1)).float().mean() > 0.999
