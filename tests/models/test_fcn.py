import math

import pytest
import torch

from deconvnet.errors import CheckpointError
from deconvnet.layers.bilinear import BilinearUpsampling
from deconvnet.models import build_model, load_coarser

SMALL = {"num_classes": 3, "width": 1 / 64}


def sides(side):
    """What the release makes of a picture of this side: pool3, pool4, pool5 and score_fr."""
    side += 2 * 100 - 2  # conv1_1, padded by 100
    pooled = []
    for _ in range(5):
        side = math.ceil(side / 2)
        pooled.append(side)
    return *pooled[2:], pooled[-1] - 6


def enlarged(side, factor):
    return (side - 1) * factor + 2 * factor


def test_for_every_side_the_crops_lie_inside_the_maps():
    for side in range(1, 3000):
        pool3, pool4, _, score = sides(side)
        assert score >= 1
        assert 19 + side <= enlarged(score, 32)
        score2 = enlarged(score, 2)
        assert 5 + score2 <= pool4
        assert 27 + side <= enlarged(score2, 16)
        score4 = enlarged(score2, 2)
        assert 9 + score4 <= pool3
        assert 31 + side <= enlarged(score4, 8)


def test_the_crops_put_each_score_over_the_middle_of_what_it_saw():
    def middle(cell, poolings, window=1):  # in pixels of the picture
        stride = 2**poolings
        cell += (window - 1) / 2
        return cell * stride + (stride - 1) / 2 - 100 + 1  # conv1_1's window begins 1 before

    def enlarged_middle(cell, factor):  # in cells of the enlarged map
        return cell * factor + factor - 0.5

    fr, pool4, pool3 = 2, 4, 5
    seen = middle(fr, 5, window=7)
    assert enlarged_middle(fr, 32) - 19 == seen
    score2 = enlarged_middle(fr, 2)
    assert middle(score2 + 5, 4) == seen
    assert enlarged_middle(pool4, 16) - 27 == middle(pool4 + 5, 4)
    assert middle(enlarged_middle(pool4, 2) + 9, 3) == middle(pool4 + 5, 4)
    assert enlarged_middle(pool3, 8) - 31 == middle(pool3 + 9, 3)


@pytest.mark.parametrize(
    ("side", "maps", "ups"),
    [(500, (88, 44, 22, 16), (544, 560, 568)), (375, (72, 36, 18, 12), (416, 432, 440))],
)
def test_the_maps_have_the_published_sides(side, maps, ups):
    assert sides(side) == maps
    network = build_model("fcn8s", **SMALL).eval()
    found = {}
    for name in ("score_pool3", "score_pool4", "score_fr", "upscore8"):
        network.get_submodule(name).register_forward_hook(
            lambda _module, _given, out, name=name: found.update({name: out.shape[2]})
        )
    with torch.inference_mode():
        network(torch.rand(1, 3, side, 40))
    pool3, pool4, _, score = maps
    assert found == {
        "score_pool3": pool3,
        "score_pool4": pool4,
        "score_fr": score,
        "upscore8": ups[2],
    }
    assert (enlarged(score, 32), enlarged(enlarged(score, 2), 16)) == ups[:2]


def test_score_layers_start_at_zero():
    network = build_model("fcn8s", **SMALL).eval()
    assert network(torch.rand(1, 3, 20, 30)).eq(0).all()


def trained(name, **options):
    """A network whose score layers are no longer zero."""
    network = build_model(name, **SMALL, **options).eval()
    with torch.no_grad():
        for module in (network.score_fr, getattr(network, "score_pool4", network.score_fr)):
            module.weight.normal_()
            module.bias.normal_()
    return network


@pytest.mark.parametrize(
    ("coarse", "fine", "new"),
    [
        ("fcn32s", "fcn16s", ["score_pool4.weight", "score_pool4.bias"]),
        ("fcn16s", "fcn8s", ["score_pool3.weight", "score_pool3.bias"]),
    ],
)
def test_a_finer_net_starts_equal_to_the_coarser_one(coarse, fine, new):
    coarser, finer = trained(coarse), build_model(fine, **SMALL).eval()
    assert load_coarser(finer, coarser.state_dict()) == new
    images = torch.rand(1, 3, 150, 170)
    fused = {}
    for network in (coarser, finer):
        last = [
            module for module in network.modules() if isinstance(module, BilinearUpsampling)
        ]
        last[-1].register_forward_pre_hook(
            lambda _module, given, network=network: fused.update({network: given[0]})
        )
    with torch.inference_mode():
        before, after = coarser(images), finer(images)
    torch.testing.assert_close(fused[finer], BilinearUpsampling(2)(fused[coarser]))
    # All that differs is the interpolation, once by 32 or by 2 and then by 16.
    assert (before - after).abs().mean() < 0.05 * before.std()
    assert (before.argmax(1) == after.argmax(1)).float().mean() > 0.95


def test_the_finer_net_learns_what_its_new_layer_adds():
    finer = build_model("fcn16s", **SMALL)
    load_coarser(finer, trained("fcn32s").state_dict())
    finer(torch.rand(1, 3, 40, 40)).square().sum().backward()
    assert finer.score_pool4.weight.grad.ne(0).any()


def test_weights_of_other_classes_are_refused_before_anything_changes():
    finer = build_model("fcn16s", **SMALL)
    before = finer.score_fr.weight.clone()
    other = build_model("fcn32s", num_classes=4, width=1 / 64)
    with pytest.raises(CheckpointError) as caught:
        load_coarser(finer, other.state_dict())
    assert str(caught.value) == (
        "'score_fr.weight' of the coarser network has the shape (4, 64, 1, 1), the finer one's "
        "is (3, 64, 1, 1); both need the same classes, width, fc_channels and batch_norm, and "
        "the order is fcn32s, fcn16s, fcn8s."
    )
    assert torch.equal(before, finer.score_fr.weight)


def test_at_once_scales_the_shallow_maps():
    staged, at_once = trained("fcn8s"), build_model("fcn8s-at-once", **SMALL).eval()
    state = staged.state_dict()
    at_once.load_state_dict(state)
    with torch.no_grad():
        for name, scale in (("score_pool4", 0.01), ("score_pool3", 0.0001)):
            staged.get_submodule(name).weight.mul_(scale)
    images = torch.rand(1, 3, 60, 60)
    with torch.inference_mode():
        torch.testing.assert_close(at_once(images), staged(images))


def test_learned_upsampling_starts_as_the_fixed_one_and_learns():
    fixed, learned = trained("fcn8s"), build_model("fcn8s", **SMALL, learned_upsampling=True)
    learned.eval().load_state_dict(fixed.state_dict(), strict=False)
    assert learned.upscore2.bias is not None
    assert learned.upscore4.bias is None
    images = torch.rand(1, 3, 60, 60)
    torch.testing.assert_close(learned(images), fixed(images))
    learned(images).square().sum().backward()
    assert learned.upscore2.weight.grad.ne(0).any()
    assert learned.upscore4.weight.grad.ne(0).any()
