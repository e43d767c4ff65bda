"""What training makes small. All losses ignore the pixels labelled 255."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from deconvnet.labels import IGNORED
from deconvnet.shapes import Float, InstanceMap, Int64, LabelBatch, LogitsBatch, Tensor


def cross_entropy(
    logits: LogitsBatch,
    labels: LabelBatch,
    *,
    class_weights: Float[Tensor, " k"] | None = None,
    pixel_weights: Float[Tensor, "n h w"] | None = None,
    labelled: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Weighted cross entropy, divided by the number of labelled pixels.

    Dividing by pixels and not by the sum of weights, as PyTorch does, keeps the weight of a
    picture apart from what it shows. A batch without any labelled pixel costs nothing.

    Args:
        class_weights: Factor of each class.
        pixel_weights: Factor of each pixel, such as 1 + border_weights.
        labelled: Labelled pixels to divide by, where the batch is a part of a larger one.

    Source: Badrinarayanan et al. 2017, section 3.1, and the loss layer of caffe-segnet.
    """
    losses = F.cross_entropy(
        logits, labels, weight=class_weights, ignore_index=IGNORED, reduction="none"
    )
    if pixel_weights is not None:
        losses = losses * pixel_weights
    if labelled is None:
        labelled = (labels != IGNORED).sum().to(losses.dtype)
    return losses.sum() / labelled.clamp(min=1)


def dice_loss(logits: LogitsBatch, labels: LabelBatch) -> Float[Tensor, ""]:
    """One minus the soft Dice coefficient, averaged over the classes present in the batch.

    Source: Milletari et al. 2016 (V-Net), section 3, with squares left out of the denominator.
    """
    probabilities, truth = _on_labelled_pixels(logits.softmax(1), labels)
    overlap = (probabilities * truth).sum(1)
    total = probabilities.sum(1) + truth.sum(1)
    present = truth.sum(1) > 0
    if not bool(present.any()):
        return logits.sum() * 0
    return (1 - 2 * overlap / total.clamp(min=1e-6))[present].mean()


def lovasz_loss(logits: LogitsBatch, labels: LabelBatch) -> Float[Tensor, ""]:
    """The Lovasz extension of 1 - IoU, averaged over the classes present in the batch.

    Source: Berman, Triki & Blaschko 2018, equations (9) and (10).
    """
    probabilities, truth = _on_labelled_pixels(logits.softmax(1), labels)
    costs = []
    for index in torch.nonzero(truth.any(1)).flatten().tolist():
        errors = (truth[index] - probabilities[index]).abs()
        order = _largest_first(errors.detach())
        prices = torch.empty_like(truth[index])
        prices[order] = _jaccard_steps(truth[index][order])
        costs.append(torch.dot(errors, prices))
    return torch.stack(costs).mean() if costs else logits.sum() * 0


def distillation_loss(
    logits: LogitsBatch,
    teacher_logits: LogitsBatch,
    labels: LabelBatch,
    *,
    labelled: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """How far the probabilities lie from a teacher's: the divergence KL(teacher, own) in nats.

    Its mean over the labelled pixels; 0 where the two agree.

    Args:
        labelled: Labelled pixels to divide by, where the batch is a part of a larger one.

    Source: Hinton, Vinyals & Dean 2015, section 2, pixel by pixel; differs: temperature 1, and
    the teacher's own entropy is taken off, which moves no gradient.
    """
    known = (labels != IGNORED).to(logits.dtype)
    terms = F.kl_div(
        logits.log_softmax(1), teacher_logits.log_softmax(1), reduction="none", log_target=True
    )
    total = known.sum() if labelled is None else labelled
    return (terms.sum(1) * known).sum() / total.clamp(min=1)


def border_weights(
    instance_map: InstanceMap, *, weight: float = 10.0, sigma: float = 5.0
) -> np.ndarray:
    """Extra weight of background pixels that lie between two close objects.

    weight * exp(-(d1 + d2)^2 / (2 sigma^2)), with d1 and d2 the distances in pixels to the
    nearest and the second nearest object; zero inside objects and where there are not two.

    Source: Ronneberger et al. 2015, equation (2); published weight 10 and sigma 5.
    """
    from scipy.ndimage import distance_transform_edt, find_objects

    height, width = instance_map.shape
    nearest = np.full((2, height, width), np.inf, dtype=np.float32)
    reach = int(np.ceil(4 * sigma))  # beyond it the weight is under 0.04 % of the largest
    places: Sequence[tuple[slice, ...] | None] = find_objects(instance_map)  # None: unused id
    for number, place in enumerate(places, start=1):
        if place is None:
            continue
        rows, columns = (slice(max(part.start - reach, 0), part.stop + reach) for part in place)
        distance = distance_transform_edt(instance_map[rows, columns] != number)
        window = nearest[:, rows, columns]
        window[1] = np.minimum(window[1], np.maximum(window[0], distance))
        window[0] = np.minimum(window[0], distance)
    weights = weight * np.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
    return np.where(instance_map == 0, weights, 0).astype(np.float32)


def _on_labelled_pixels(
    probabilities: Tensor, labels: Tensor
) -> tuple[Float[Tensor, "k p"], Float[Tensor, "k p"]]:
    """The probabilities and the one-hot truth of the pixels that are not ignored."""
    labelled = (labels != IGNORED).flatten()
    chosen = probabilities.movedim(1, 0).flatten(1)[:, labelled]
    classes = torch.arange(len(chosen), device=labels.device)[:, None]
    return chosen, (labels.flatten()[labelled] == classes).to(chosen.dtype)


def _largest_first(errors: Float[Tensor, " p"]) -> Int64[Tensor, " p"]:
    """The order that sorts numbers of at least 0, downwards."""
    if errors.dtype != torch.float32 or errors.device.type != "cpu":
        return errors.argsort(descending=True)
    # The bits of such floats, read as whole numbers, have their order. With the place behind
    # them they are numbers of 64 bits, which NumPy sorts six times as fast as torch floats.
    bits = errors.numpy().view(np.uint32).astype(np.uint64)
    keys = np.sort(bits << np.uint64(32) | np.arange(len(bits), dtype=np.uint64))
    return torch.from_numpy((keys & np.uint64(0xFFFFFFFF)).astype(np.int64)).flip(0)


def _jaccard_steps(truth: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """How much 1 - IoU grows as each pixel, in this order, becomes wrong."""
    hit = truth.sum() - truth.cumsum(0)
    union = truth.sum() + (1 - truth).cumsum(0)
    jaccard = 1 - hit / union
    return torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
