import pytest
import torch

from deconvnet.errors import RecipeError
from deconvnet.models import MODELS, build_model, model_options

HINT = "Did you mean 'deconvnet'?"
UNET_OPTIONS = "batch_norm, dropout, depth. Did you mean 'batch_norm'?"


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "num_classes", "in_channels", "options", "expected"),
    [
        ("deconvnet", 21, 3, {}, 251_805_653),
        ("segnet", 11, 3, {}, 29_449_355),
        ("segnet-bayesian", 11, 3, {}, 29_449_355),
        ("segnet-basic", 11, 3, {}, 1_416_587),
        ("unet", 2, 1, {}, 31_030_658),
        ("unet-valid", 2, 1, {}, 31_030_658),
        ("fcn8s", 21, 3, {}, 134_260_544 + 102_207),
        ("fcn8s-at-once", 21, 3, {}, 134_260_544 + 102_207),
        ("fcn16s", 21, 3, {}, 134_260_544 + 86_037 + 10_773),
        ("fcn32s", 21, 3, {}, 134_260_544 + 86_037),
        (
            "fcn8s",
            21,
            3,
            {"learned_upsampling": True},
            134_260_544 + 102_207 + 2 * 21 * 21 * 16 + 21,
        ),
    ],
)
def test_full_width_is_the_published_network_to_the_parameter(
    name, num_classes, in_channels, options, expected
):
    with torch.device("meta"):
        network = build_model(name, num_classes, in_channels, **options)
    assert parameters(network) == expected


@pytest.mark.parametrize(
    ("width", "fc_channels", "millions"),
    [(1, 1024, 81.9), (1, 512, 55.4), (0.5, 1024, 34.1), (0.25, 256, 5.13), (0.125, 128, 1.28)],
)
def test_small_deconvnets_have_the_parameters_of_the_specification(
    width, fc_channels, millions
):
    with torch.device("meta"):
        network = build_model("deconvnet", 21, width=width, fc_channels=fc_channels)
    assert parameters(network) / 1e6 == pytest.approx(millions, abs=0.06)


def test_the_names_are_those_of_the_contract():
    assert list(MODELS) == [
        "deconvnet",
        "fcn32s",
        "fcn16s",
        "fcn8s",
        "fcn8s-at-once",
        "segnet",
        "segnet-basic",
        "segnet-bayesian",
        "unet",
        "unet-valid",
    ]


def test_the_options_of_a_name_leave_out_what_the_name_says():
    assert model_options("fcn8s-at-once") == {
        "fc_channels": None,
        "dropout": 0.5,
        "batch_norm": False,
        "learned_upsampling": False,
    }
    assert model_options("segnet-bayesian")["dropout"] == 0.5
    assert model_options("segnet")["dropout"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "deconvnt"},
            f"there is no network 'deconvnt'; the networks are {', '.join(MODELS)}. {HINT}",
        ),
        (
            {"name": "unet", "batchnorm": True},
            f"unet has no option 'batchnorm'; its options are {UNET_OPTIONS}",
        ),
        (
            {"name": "unet", "num_classes": 0},
            "num_classes is 0; it must be a whole number from 1 up.",
        ),
        (
            {"name": "unet", "in_channels": -1},
            "in_channels is -1; it must be a whole number from 1 up.",
        ),
        (
            {"name": "fcn8s", "fc_channels": -1},
            "fc_channels is -1; it must be a whole number from 1 up.",
        ),
        (
            {"name": "unet", "width": 0},
            "width is 0; it must be a number above 0 and up to 16 (1 is as published).",
        ),
        (
            {"name": "unet", "dropout": 1},
            "dropout is 1; it must be a number from 0 to under 1.",
        ),
        (
            {"name": "unet", "depth": 1},
            "depth is 1; it must be a whole number from 2 to 8.",
        ),
        (
            {"name": "unet-valid", "depth": 6},
            "depth is 6; without padding the U-Net is the published one, of depth 5.",
        ),
        (
            {"name": "segnet", "bn_eps": 0.0},
            "bn_eps is 0.0; it must be a number above 0 and up to 1.",
        ),
        (
            {"name": "deconvnet", "init": "kaiming"},
            "init is 'kaiming'; it must be 'published' or 'he'.",
        ),
        (
            {"name": "unet", "batch_norm": "yes"},
            "batch_norm is 'yes'; it must be true or false.",
        ),
    ],
)
def test_what_cannot_be_built_is_answered_in_words(arguments, message):
    with pytest.raises(RecipeError) as caught:
        build_model(**({"num_classes": 2} | arguments))
    assert str(caught.value) == message
