"""Eight-bit whole numbers in place of float32, by NNCF, for the engine `openvino`.

Post-training quantisation: the range of each layer's features is measured on some pictures.
What is kept in float32 is said at KEPT; docs/performance.md has the figures.
"""

import io
import logging
from collections.abc import Iterable
from contextlib import redirect_stdout
from typing import Any

from torch import Tensor

from deconvnet.errors import MissingExtraError, RecipeError

KEPT = ("Greater", "Equal", "Select", "Maximum", "MaxPool", "Pad", "Slice", "StridedSlice")
"""What pooling and unpooling are made of. Only convolutions are worth 8 bits.

Left to itself, NNCF rounds the features before they are compared: then many windows tie, the
first corner wins, and switches turn over. That alone cost a trained DeconvNet a third of its
mean IoU, where this costs half a point; and the roundings took time, too. Between the padding
of a map by -infinity and its pooling a rounding finds no range, and U-Net answers rubbish.
"""

MOST_PICTURES = 64
"""More pictures hardly change the ranges, but take time."""


def quantised(model: Any, calibration: Iterable[Tensor] | None) -> Any:
    """An OpenVINO model whose convolutions compute in int8.

    Args:
        model: Made from a `Convertible` network. It stays as it is.
        calibration: Batches of pictures as the network takes them; the first MOST_PICTURES
            are used.

    Raises:
        MissingExtraError: When NNCF is not installed.
        RecipeError: Without pictures.
    """
    try:
        import nncf
    except ImportError:
        raise MissingExtraError("the precision 'int8'", "openvino") from None
    pictures = [batch.float().cpu().numpy() for batch in _at_most(calibration or ())]
    if not pictures:
        raise RecipeError(
            "The precision 'int8' needs pictures to measure the range of each layer on, some "
            "dozens of those it was trained on; give them as calibration (on the command line: "
            "--calibrate DATA)."
        )
    nncf.set_log_level(logging.ERROR)
    with redirect_stdout(io.StringIO()):  # its progress, where results of ours go
        return nncf.quantize(
            model.clone(),
            nncf.Dataset(pictures),
            subset_size=len(pictures),
            preset=nncf.QuantizationPreset.MIXED,  # features never negative use all levels
            ignored_scope=nncf.IgnoredScope(types=list(KEPT), validate=False),
        )


def check_int8(engine: str) -> None:
    """Refuse other engines.

    Raises:
        RecipeError: For them.
    """
    if engine != "openvino":
        raise RecipeError(
            f"The engine '{engine}' does not compute in precision 'int8'; take the engine "
            "'openvino', or 'fp32'."
        )


def _at_most(calibration: Iterable[Tensor]) -> list[Tensor]:
    taken: list[Tensor] = []
    for batch in calibration:
        taken.append(batch)
        if sum(map(len, taken)) >= MOST_PICTURES:
            break
    return taken
