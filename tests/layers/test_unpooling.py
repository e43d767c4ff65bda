import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deconvnet.errors import RecipeError, ShapeError
from deconvnet.layers import UNPOOLING_KINDS, Switches, Unpooling, pool, unpool
from oracles.unpooling import pool_by_loops, unpool_by_loops

GOLDEN = torch.tensor(
    [[[[1.0, 2, 5, 3], [4, 0, 1, 2], [7, 1, 2, 2], [0, 6, 9, 8]]]],
)

# Few distinct values, so that ties and all-zero windows are common.
planes = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 7), st.integers(1, 7)),
    elements=st.sampled_from([0.0, 1.0, 2.0, 0.5]),
)


def golden():
    return pool(GOLDEN)


def rows(plane):
    return plane[0, 0].tolist()


def test_pooling_gives_the_golden_maxima_and_switches():
    pooled, switches = golden()
    assert rows(pooled) == [[4, 5], [7, 9]]
    assert rows(switches.positions) == [[4, 2], [8, 14]]
    assert switches.size == (4, 4)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("switches", [[0, 0, 5, 0], [4, 0, 0, 0], [7, 0, 0, 0], [0, 0, 9, 0]]),
        ("nails", [[4, 0, 5, 0], [0, 0, 0, 0], [7, 0, 9, 0], [0, 0, 0, 0]]),
        ("nearest", [[4, 4, 5, 5], [4, 4, 5, 5], [7, 7, 9, 9], [7, 7, 9, 9]]),
        (
            "average",
            [
                [1, 1, 1.25, 1.25],
                [1, 1, 1.25, 1.25],
                [1.75, 1.75, 2.25, 2.25],
                [1.75, 1.75, 2.25, 2.25],
            ],
        ),
        (
            "bilinear",
            [
                [4, 4.25, 4.75, 5],
                [4.75, 5.0625, 5.6875, 6],
                [6.25, 6.6875, 7.5625, 8],
                [7, 7.5, 8.5, 9],
            ],
        ),
        ("subpixel", [[4, 4, 5, 5], [4, 4, 5, 5], [7, 7, 9, 9], [7, 7, 9, 9]]),
    ],
)
def test_each_kind_gives_the_golden_plane(kind, expected):
    with torch.no_grad():
        assert rows(Unpooling(kind, 1)(*golden())) == expected


def test_the_transposed_kind_starts_as_bilinear_away_from_the_edges():
    features, switches = torch.rand(1, 3, 6, 6), pool(torch.rand(1, 3, 12, 12))[1]
    learned = Unpooling("transposed", 3)(features, switches)
    fixed = Unpooling("bilinear", 3)(features, switches)
    torch.testing.assert_close(learned[:, :, 1:-1, 1:-1], fixed[:, :, 1:-1, 1:-1])


@given(planes)
@settings(deadline=None, max_examples=60)
def test_pooling_agrees_with_loops_and_the_first_maximum_wins(features):
    for layout in (torch.contiguous_format, torch.channels_last):
        tensor = torch.from_numpy(features).contiguous(memory_format=layout)
        pooled, switches = pool(tensor)
        for n, c in np.ndindex(features.shape[:2]):
            expected, positions = pool_by_loops(features[n, c])
            np.testing.assert_array_equal(pooled[n, c], expected)
            np.testing.assert_array_equal(switches.positions[n, c], positions)


@given(planes, st.sampled_from(["switches", "nails", "nearest", "average"]))
@settings(deadline=None, max_examples=60)
def test_unpooling_agrees_with_loops(features, kind):
    pooled, switches = pool(torch.from_numpy(features))
    unpooled = Unpooling(kind, features.shape[1])(pooled, switches)
    for n, c in np.ndindex(features.shape[:2]):
        expected = unpool_by_loops(
            kind, pooled[n, c].numpy(), switches.positions[n, c].numpy(), features.shape[2:]
        )
        np.testing.assert_allclose(unpooled[n, c], expected, rtol=1e-6)


@given(planes)
@settings(deadline=None, max_examples=40)
def test_unpooling_keeps_each_maximum_in_its_place(features):
    original = torch.from_numpy(features)
    pooled, switches = pool(original)
    unpooled = unpool(pooled, switches)
    gathered = unpooled.flatten(2).gather(2, switches.positions.flatten(2))
    assert torch.equal(gathered, pooled.flatten(2))
    assert (unpooled != 0).sum() <= pooled.numel()
    assert torch.equal(pool(unpooled)[0], pooled)
    nonzero = unpooled != 0
    assert torch.equal(unpooled[nonzero], original[nonzero])


@given(planes)
@settings(deadline=None, max_examples=20)
def test_the_average_kind_keeps_sums(features):
    pooled, switches = pool(torch.from_numpy(features))
    unpooled = Unpooling("average", features.shape[1])(pooled, switches)
    torch.testing.assert_close(unpooled.sum(), pooled.sum())


def test_the_gradient_of_unpooling_is_what_lies_at_the_switches():
    pooled, switches = golden()
    pooled = pooled.clone().requires_grad_()
    sent_back = torch.arange(16.0).reshape(1, 1, 4, 4)
    unpool(pooled, switches).backward(sent_back)
    assert rows(pooled.grad) == [[4, 2], [8, 14]]


@pytest.mark.parametrize("kind", UNPOOLING_KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 7), (8, 4)])
def test_every_kind_takes_its_size_from_the_switches_and_repeats_itself(kind, size):
    pooled, switches = pool(torch.rand(2, 3, *size))
    unpooling = Unpooling(kind, 3)
    with torch.no_grad():
        first, second = unpooling(pooled, switches), unpooling(pooled, switches)
    assert first.shape == (2, 3, *size)
    assert torch.equal(first, second)


@pytest.mark.parametrize("kind", UNPOOLING_KINDS)
def test_every_kind_has_the_right_gradient(kind):
    unpooling = Unpooling(kind, 2).double()
    pooled, switches = pool(torch.rand(1, 2, 5, 4, dtype=torch.float64))
    pooled.requires_grad_()
    assert torch.autograd.gradcheck(lambda features: unpooling(features, switches), (pooled,))


def test_a_wrong_kind_is_answered_with_those_allowed_and_the_nearest():
    with pytest.raises(RecipeError) as caught:
        Unpooling("nearst", 3)
    assert str(caught.value) == (
        "there is no unpooling 'nearst'; the kinds are switches, nails, nearest, average, "
        "bilinear, subpixel, transposed. Did you mean 'nearest'?"
    )


def test_switches_of_another_pooling_are_refused():
    _, switches = golden()
    with pytest.raises(ShapeError) as caught:
        unpool(torch.zeros(1, 1, 3, 3), switches)
    assert str(caught.value) == (
        "features of shape (1, 1, 3, 3) came with switches of shape (1, 1, 2, 2); unpooling "
        "needs the switches of the pooling that made a map of just this shape."
    )


def test_switches_are_values():
    _, switches = golden()
    assert isinstance(switches, Switches)
    assert switches._fields == ("positions", "size")
