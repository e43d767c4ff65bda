"""Instance-wise prediction: segment object proposals one by one and join their maps.

Large objects are seen whole in large windows, small ones enlarged in small windows; so the
network's fixed receptive field does not limit which sizes it can segment.

Source: Noh, Hong & Han 2015, sections 3.3 and 4.3.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from deconvnet import proposals
from deconvnet.shapes import BoxArray, Float32, Image

if TYPE_CHECKING:
    from deconvnet.predict import Predictor

Aggregate = Literal["max", "mean"]
Protocol = Literal["paper", "release"]

CONTEXT = 1.2
"""Proposals are enlarged by this, so that an object is seen with what surrounds it."""

LEAST_SIDE = 112
"""Pixels; boxes with a shorter side are skipped by the release, in pictures of VOC's size."""

VOC_SIDE = 500
"""Longer side of VOC's pictures in pixels."""

BATCH = 8
"""Windows that go through the network together."""


class Growth(NamedTuple):
    """The joined map after some of the proposals."""

    scores: Float32[np.ndarray, "k h w"]
    done: int
    total: int
    boxes: BoxArray
    """The windows segmented so far, largest first."""


def instance_scores(
    predictor: "Predictor",
    image: Image,
    count: int,
    *,
    aggregate: Aggregate = "max",
    protocol: Protocol = "paper",
    aggregate_on: Literal["scores", "probabilities"] = "scores",
) -> Float32[np.ndarray, "k h w"]:
    """Scores of each class at each pixel, joined over `count` proposals; 0 under none.

    Args:
        predictor: The network and how to standardise for it.
        image: The picture.
        count: Proposals to segment; the paper takes 50.
        aggregate: The largest score of any window at a pixel (paper), or their mean.
        protocol: paper also segments the picture as a whole, as one more window; release does
            not, skips boxes with a side under 112 px in any picture, and shifts the map by
            one pixel to the right and down, as the released MATLAB code does.
        aggregate_on: Join scores before softmax (paper and release), or probabilities.
    """
    windows = choose_windows(image, count, protocol=protocol)
    growth = None
    for growth in grow(  # noqa: B007 - only the last is wanted
        predictor,
        image,
        windows,
        aggregate=aggregate,
        aggregate_on=aggregate_on,
        shift=1 if protocol == "release" else 0,
    ):
        pass
    if growth is None:
        return np.zeros((len(predictor.classes), *image.shape[:2]), np.float32)
    return growth.scores


def choose_windows(image: Image, count: int, *, protocol: Protocol = "paper") -> BoxArray:
    """The windows to segment: the best proposals, enlarged and made square, largest first."""
    height, width = image.shape[:2]
    boxes, scores = proposals.propose(image, method=proposals.default_method())
    boxes = proposals.enlarge(boxes, CONTEXT)
    least = float(LEAST_SIDE)
    if protocol == "paper":  # the rule made for VOC, carried over to pictures of any size
        least *= min(1.0, max(height, width) / VOC_SIDE)
    chosen, _ = proposals.select(boxes, scores, count=count, least_side=least)
    if protocol == "paper":
        whole = np.array([[0, 0, width, height]], np.float32)
        chosen = np.concatenate([whole, chosen])
    squares = proposals.square(chosen)
    return squares[np.argsort(squares[:, 0] - squares[:, 2], kind="stable")]


def grow(
    predictor: "Predictor",
    image: Image,
    windows: BoxArray,
    *,
    aggregate: Aggregate = "max",
    aggregate_on: Literal["scores", "probabilities"] = "scores",
    shift: int = 0,
    together: int = BATCH,
) -> Iterator[Growth]:
    """Segment windows in their order, giving the joined map after each batch of them.

    Taken from large to small, this is figure 6 of the paper: large structure first, fine detail
    later. The memory needed does not depend on the number of windows.

    Windows are cut from the picture as it is and resized to the network's crop_size, which is
    counted after its input_scale; so that factor is not applied a second time.

    Args:
        predictor: The network and how to standardise for it.
        image: The picture.
        windows: Boxes, which may run past the border; the picture continues in black there.
        aggregate: As for instance_scores.
        aggregate_on: As for instance_scores.
        shift: Pixels by which the map is moved to the right and down.
        together: Windows of a batch; 1 gives the map after each window, at some cost of time.
    """
    canvas = np.zeros((len(predictor.classes), *image.shape[:2]), np.float32)
    covered = np.zeros(image.shape[:2], np.float32)
    side = int(predictor.config.recipe.get("crop_size", 224))
    for start in range(0, len(windows), together):
        batch = windows[start : start + together]
        crops = [proposals.crop(image, window, side) for window in batch]
        with torch.inference_mode():
            scores = predictor.network(torch.stack([predictor.normalised(c) for c in crops]))
            if aggregate_on == "probabilities":
                scores = scores.softmax(1)
        for window, window_scores in zip(batch, scores.float().cpu().numpy(), strict=True):
            proposals.paste(
                canvas, window_scores, window + shift, how=aggregate, counts=covered
            )
        done = start + len(batch)
        joined = canvas / np.maximum(covered, 1) if aggregate == "mean" else canvas
        yield Growth(joined.copy(), done, len(windows), windows[:done])
