"""Every kernel against its twin in torch, and its memory against a sanitizer."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deconvnet import kernels
from deconvnet.errors import ShapeError
from deconvnet.kernels import winograd
from deconvnet.layers import Switches, pool, unpool

pytestmark = pytest.mark.skipif(
    not winograd.is_available(), reason="there is no C++ compiler for the native kernels"
)


def assert_convolves_like_torch(count, channels, out_channels, height, width, padding, relu):
    features = torch.randn(count, channels, height, width)
    weight, bias = torch.randn(out_channels, channels, 3, 3), torch.randn(out_channels)
    packed = winograd.pack(weight, bias)
    result = winograd.convolve(features, packed, padding=padding, relu=relu)
    expected = F.conv2d(features.double(), weight.double(), bias.double(), padding=padding)
    if relu:
        expected = expected.relu()
    assert_near(result, expected)


def assert_kernels_have_the_gradient_of_torch(
    count, channels, out_channels, height, width, padding, turned, channels_last
):
    height, width = max(height, 3 - 2 * padding), max(width, 3 - 2 * padding)
    features = torch.randn(count, channels, height, width)
    shape = (channels, out_channels) if turned else (out_channels, channels)
    weight, bias = torch.randn(*shape, 3, 3), torch.randn(out_channels)
    if channels_last:
        weight = weight.contiguous(memory_format=torch.channels_last)
    exact = [value.double().requires_grad_() for value in (features, weight, bias)]
    result = (
        F.conv_transpose2d(*exact, padding=2 - padding)
        if turned
        else F.conv2d(*exact, padding=padding)
    )
    gradient = torch.randn(result.shape)
    result.backward(gradient.double())
    to_weight, to_bias = winograd.kernel_gradient(
        features, gradient, weight, padding=padding, turned=turned
    )
    assert to_weight.stride() == weight.stride()
    assert_near(to_weight, exact[1].grad)
    assert_near(to_bias, exact[2].grad)
    forth = winograd.pack(weight, bias, turned=turned)
    assert_near(winograd.convolve(features, forth, padding=padding), result)
    back = winograd.pack(weight, None, turned=not turned)
    assert_near(winograd.convolve(gradient, back, padding=2 - padding), exact[0].grad)


def assert_near(result, expected):
    assert result.shape == expected.shape
    assert (result - expected).abs().max() <= 2e-5 * expected.abs().max().clamp(min=1)


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 3),
    channels=st.integers(1, 40),
    out_channels=st.integers(1, 40),
    height=st.integers(3, 19),
    width=st.integers(3, 19),
    padding=st.integers(0, 1),
    relu=st.booleans(),
)
def test_any_convolution_is_that_of_torch(**sizes):
    assert_convolves_like_torch(**sizes)


@pytest.mark.parametrize(
    ("channels", "out_channels", "side"),
    [(64, 64, 45), (256, 96, 14), (200, 300, 30), (512, 512, 7), (1, 16, 1)],
)
def test_channels_and_tiles_are_shared_out_among_threads(threads, channels, out_channels, side):
    assert_convolves_like_torch(2, channels, out_channels, side, side + 1, 1, relu=True)


def test_features_in_any_memory_format_are_taken():
    features, weight = torch.randn(2, 20, 9, 11), torch.randn(18, 20, 3, 3)
    packed = winograd.pack(weight, None)
    expected = F.conv2d(features, weight, padding=1)
    for laid_out in (features, features.to(memory_format=torch.channels_last)):
        assert_near(winograd.convolve(laid_out, packed), expected)
    part = torch.randn(2, 40, 18, 22)[:, ::2, ::2, 1::2]
    assert_near(winograd.convolve(part, packed), F.conv2d(part, weight, padding=1))


def test_what_is_no_number_stays_so():
    features = torch.zeros(1, 16, 8, 8)
    features[0, 3, 2, 2] = float("nan")
    packed = winograd.pack(torch.ones(16, 16, 3, 3), None)
    assert winograd.convolve(features, packed, relu=True)[0, :, 2, 2].isnan().all()


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 3),
    channels=st.integers(1, 20),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_pooling_and_unpooling_are_those_of_the_layers(count, channels, height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randint(
        -2, 3, (count, channels, height, width), generator=generator
    ).float()
    pooled, switches = pool(features)
    best, corners = winograd.pool_corners(features)
    assert torch.equal(best, pooled)
    rows = torch.arange(pooled.shape[2])[:, None] * 2 + corners // 2
    columns = torch.arange(pooled.shape[3]) * 2 + corners % 2
    assert torch.equal(rows * width + columns, switches.positions)
    picked = winograd.pick_corners(features, corners)
    assert torch.equal(
        picked, features.flatten(2).gather(2, switches.positions.flatten(2)).view_as(picked)
    )
    others = torch.randn(pooled.shape)
    assert torch.equal(
        winograd.unpool_corners(others, corners, switches.size),
        unpool(others, Switches(switches.positions, switches.size)),
    )


def test_threads_share_out_rows(threads):
    features = torch.randn(3, 5, 7, 9)
    pooled, switches = pool(features)
    best, corners = winograd.pool_corners(features)
    assert torch.equal(best, pooled)
    plane = winograd.unpool_corners(best, corners, (7, 9))
    assert torch.equal(plane, unpool(pooled, switches))
    assert torch.equal(winograd.pick_corners(plane, corners), best)


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 3),
    channels=st.integers(1, 40),
    out_channels=st.integers(1, 40),
    height=st.integers(3, 19),
    width=st.integers(3, 19),
    padding=st.integers(0, 2),
    turned=st.booleans(),
    channels_last=st.booleans(),
)
def test_any_kernel_gradient_is_that_of_torch(**sizes):
    assert_kernels_have_the_gradient_of_torch(**sizes)


@pytest.mark.parametrize(
    ("channels", "out_channels", "side"),
    [(64, 64, 45), (256, 96, 14), (200, 300, 30), (1, 16, 1), (16, 16, 2)],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_kernel_gradient_is_shared_out_among_threads(
    threads, channels, out_channels, side, turned
):
    sizes = (2, channels, out_channels, side, side + 1)
    assert_kernels_have_the_gradient_of_torch(*sizes, 1, turned, channels_last=True)


def test_the_kernel_gradient_has_the_same_bits_each_time(threads):
    for channels in (20, 180):  # shared out by tiles, and by channels
        features, gradient = torch.randn(2, channels, 33, 30), torch.randn(2, channels, 33, 30)
        weight = torch.empty(channels, channels, 3, 3)
        first, *others = (
            winograd.kernel_gradient(features, gradient, weight) for _ in range(4)
        )
        for other in others:
            assert torch.equal(first[0], other[0])
            assert torch.equal(first[1], other[1])


def test_channels_are_joined_as_torch_does(threads):
    parts = [torch.randn(2, channels, 5, 7) for channels in (3, 16, 1)]
    assert torch.equal(winograd.join_channels(parts), torch.cat(parts, dim=1))


@pytest.mark.parametrize("shape", [(2, 21, 13, 11), (1, 1, 3, 70), (3, 33, 9, 9), (0, 4, 3, 3)])
def test_planes_are_those_of_torch(shape, threads):
    features = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    planes = winograd.to_planes(features)
    assert planes.is_contiguous()
    assert torch.equal(planes, features)


def test_an_empty_batch_gives_an_empty_result():
    packed = winograd.pack(torch.randn(16, 16, 3, 3), None)
    assert winograd.convolve(torch.zeros(0, 16, 8, 8), packed).shape == (0, 16, 8, 8)
    assert winograd.pool_corners(torch.zeros(0, 16, 8, 8))[0].shape == (0, 16, 4, 4)
    gradient, _ = winograd.kernel_gradient(
        torch.zeros(0, 16, 8, 8), torch.zeros(0, 16, 8, 8), torch.zeros(16, 16, 3, 3)
    )
    assert torch.equal(gradient, torch.zeros(16, 16, 3, 3))


def test_other_types_are_refused_in_words():
    packed = winograd.pack(torch.randn(16, 16, 3, 3), None)
    with pytest.raises(ShapeError, match=r"given torch.float64 on cpu; they take float32"):
        winograd.convolve(torch.zeros(1, 16, 8, 8, dtype=torch.float64), packed)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["winograd", "product"])
def test_the_kernels_stay_within_their_memory(kernel, tmp_path):
    flags = "-g -O1 -march=native -std=c++17 -fsanitize=address,undefined".split()
    driver = Path(__file__).with_name(f"{kernel}_driver.cpp")
    program = tmp_path / "driver"
    built = subprocess.run(
        [
            shutil.which("c++"),
            *flags,
            f"-I{Path(kernels.__file__).parent}",
            driver,
            "-o",
            program,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "cannot find" in built.stderr:
        pytest.skip("this compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("done\n", "")
