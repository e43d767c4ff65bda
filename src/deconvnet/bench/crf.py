"""The dense CRF, beside pydensecrf2."""

import contextlib
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from deconvnet import crf
from deconvnet.bench.report import Table
from deconvnet.bench.settings import Settings
from deconvnet.bench.timing import interleaved
from deconvnet.data.scenes import Scenes


def bench_crf(settings: Settings) -> list[Table]:
    """Our dense CRF beside pydensecrf2, on the same problem."""
    image = np.ascontiguousarray(Scenes("val", count=1, size=settings.size)[0].image)
    scores = torch.randn(21, settings.size // 16, settings.size // 16)
    logits = nn.functional.interpolate(2 * scores[None], (settings.size,) * 2, mode="bilinear")
    probabilities = logits[0].softmax(0).numpy()
    calls: dict[str, Callable[[], np.ndarray]] = {
        "deconvnet.crf": partial(crf.refine, image, probabilities)
    }
    with contextlib.suppress(ImportError):
        calls["pydensecrf2"] = _pydensecrf(image, probabilities)
    labels = {who: call().argmax(0) for who, call in calls.items()}
    timing = interleaved(calls, rounds=3)
    rows = tuple(
        (
            who,
            *found.milliseconds(),
            round(100 * float(np.mean(labels[who] == labels["deconvnet.crf"])), 2),
        )
        for who, found in timing.items()
    )
    return [
        Table(
            f"Dense CRF: ms for {settings.size} x {settings.size} pixels, 21 classes",
            ("by", "median", "low", "high", "argmax %"),
            rows,
            kind="crf",
        )
    ]


def _pydensecrf(image: np.ndarray, probabilities: np.ndarray) -> Callable[[], np.ndarray]:
    """The published problem (gaussian 3, 3; bilateral 20, 3, 5; no normalisation)."""
    import pydensecrf.densecrf as dcrf

    count, height, width = probabilities.shape
    unary = np.ascontiguousarray(-np.log(probabilities.clip(1e-9)).reshape(count, -1))

    def call() -> np.ndarray:
        field = dcrf.DenseCRF2D(width, height, count)
        field.setUnaryEnergy(unary)
        plain = {"kernel": dcrf.CONST_KERNEL, "normalization": dcrf.NO_NORMALIZATION}
        field.addPairwiseGaussian(sxy=3, compat=3, **plain)
        field.addPairwiseBilateral(sxy=20, srgb=3, rgbim=image, compat=5, **plain)
        return np.array(field.inference(10)).reshape(count, height, width)

    return call
