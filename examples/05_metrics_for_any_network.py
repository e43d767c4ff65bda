"""Score any network's label maps: plain arrays in, numbers out.

python examples/05_metrics_for_any_network.py
"""

import numpy as np
from scipy.ndimage import gaussian_filter

from deconvnet import open_dataset
from deconvnet.metrics import Scores


def blurred(label_map, num_classes, sigma=3):
    """Stands for your network here: the truth, with its details lost."""
    votes = [gaussian_filter((label_map == k).astype(float), sigma) for k in range(num_classes)]
    return np.argmax(votes, axis=0)


def main():
    dataset = open_dataset("scenes:size=128,count=10", "val")
    names, background = dataset.classes.names, dataset.classes.background
    scores = Scores.empty(len(names), background=background)
    for sample in dataset:
        predicted = blurred(sample.label_map, len(names))
        scores = scores.add(predicted, sample.label_map, sample.instance_map)

    values = scores.to_json(names)
    for name in ("mean_iou", "pixel_accuracy", "boundary_f1"):
        print(f"{name:<15} {100 * values[name]:5.1f} %")
    for band, iou in values["iou_by_size"].items():
        print(f"IoU, {band + ' objects':<15}", "none" if iou is None else f"{100 * iou:5.1f} %")


if __name__ == "__main__":
    main()
