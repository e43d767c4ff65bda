"""Measure what each difference between paper and release is worth: docs/fidelity.md's numbers.

    python scripts/measure_protocols.py deconvnet-camvid fcn8s-camvid ../shared/data/camvid

The first network segments 50 proposals of each picture once; every way to join, move and refine
the maps is then scored on the same maps.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch

from deconvnet import crf, proposals
from deconvnet.data import open_dataset
from deconvnet.evaluate import check_classes
from deconvnet.instances import BATCH, choose_windows
from deconvnet.metrics import Scores
from deconvnet.predict import Predictor, combined, load
from deconvnet.progress import tracked
from deconvnet.shapes import Image

Maps = list[tuple[np.ndarray, np.ndarray]]
"""Window and its scores."""


def main() -> None:
    """Read the command line, measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="a DeconvNet")
    parser.add_argument("partner", help="an FCN-8s for the same classes")
    parser.add_argument("data")
    parser.add_argument("--pictures", type=int, default=8, help="of val, evenly spread (8)")
    parser.add_argument("--proposals", type=int, default=50)
    asked = parser.parse_args()
    network, partner = load(asked.network), load(asked.partner)
    dataset = open_dataset(asked.data, "val")
    check_classes(network.classes, dataset.classes)
    check_classes(partner.classes, dataset.classes)
    count = min(asked.pictures, len(dataset))
    scores: dict[str, Scores] = {}
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    for index in tracked(chosen, "measure", count):
        sample = dataset[int(index)]
        for name, probabilities in ways(network, partner, sample.image, asked.proposals):
            nothing = Scores.empty(len(dataset.classes), background=dataset.classes.background)
            labels = probabilities.argmax(0).astype(np.uint8)
            known = scores.get(name, nothing)
            scores[name] = known.add(labels, sample.label_map, sample.instance_map)
    print(f"{count} pictures of {asked.data}, val; mIoU and boundary F1 in percent")
    for name, reached in scores.items():
        found = reached.to_json(dataset.classes.names)
        print(f"{name:44} {100 * found['mean_iou']:6.2f} {100 * found['boundary_f1']:6.2f}")


def ways(
    network: Predictor, partner: Predictor, image: Image, count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Probabilities of each way to predict, by what differs from the paper's protocol."""
    size = len(network.classes), *image.shape[:2]
    paper = segmented(network, image, choose_windows(image, count))
    chosen = choose_windows(image, count, protocol="release")
    known = {tuple(window): scores for window, scores in paper}
    missing = [window for window in chosen if tuple(window) not in known]
    known |= {tuple(w): s for w, s in segmented(network, image, np.array(missing))}
    release = [(window, known[tuple(window)]) for window in chosen]
    height, width = image.shape[:2]
    (whole,) = proposals.square(np.array([[0, 0, width, height]], np.float32))
    alone = [(window, scores) for window, scores in paper if not np.array_equal(window, whole)]
    with_whole = [*release, (whole, known[tuple(whole)])]

    base = joined(size, paper)
    yield "paper: maximum, whole picture too", softmax(base)
    yield "mean of the maps", softmax(joined(size, paper, how="mean"))
    yield "maximum of probabilities", softmax(joined(size, paper, on="probabilities"))
    yield "one row and column late", softmax(joined(size, paper, shift=1))
    yield "112 pixels in any picture", softmax(joined(size, with_whole))
    yield "without the whole picture", softmax(joined(size, alone))
    last = joined(size, release, shift=1)
    yield "release: all of it", softmax(last)
    theirs = partner.scores(image).cpu()
    yield "the partner alone", theirs.softmax(0).numpy()
    for how in ("mean", "product"):
        yield f"ensemble: {how}", combined(torch.from_numpy(base), theirs, how).numpy()
    together = combined(torch.from_numpy(base), theirs, "mean").numpy()
    for normalization in ("none", "symmetric"):
        refined = crf.refine(image, together, normalization=normalization)
        yield f"ensemble: mean, CRF normalised: {normalization}", refined
    product = combined(torch.from_numpy(last), theirs, "product").numpy()
    yield "release: all of it, product, CRF", crf.refine(image, product)


def segmented(network: Predictor, image: Image, windows: np.ndarray) -> Maps:
    """Scores of each window."""
    side = int(network.config.recipe.get("crop_size", 224))
    found: Maps = []
    for start in range(0, len(windows), BATCH):
        batch = windows[start : start + BATCH]
        crops = [network.normalised(proposals.crop(image, box, side)) for box in batch]
        with torch.inference_mode():
            scores = network.network(torch.stack(crops)).float().cpu().numpy()
        found += list(zip(batch, scores, strict=True))
    return found


def joined(
    size: tuple[int, int, int],
    maps: Maps,
    *,
    how: str = "max",
    on: str = "scores",
    shift: int = 0,
) -> np.ndarray:
    """The maps of all windows as one, as instances.grow joins them."""
    canvas, covered = np.zeros(size, np.float32), np.zeros(size[1:], np.float32)
    for window, scores in maps:
        values = softmax(scores) if on == "probabilities" else scores
        proposals.paste(canvas, values, window + shift, how=how, counts=covered)
    return canvas / np.maximum(covered, 1) if how == "mean" else canvas


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities over the first axis."""
    return torch.from_numpy(scores).softmax(0).numpy()


if __name__ == "__main__":
    main()
