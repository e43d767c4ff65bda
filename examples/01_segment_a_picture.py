"""Segment a picture with a trained network.

python examples/01_segment_a_picture.py [CHECKPOINT [PICTURE]]

Without a checkpoint it takes the network that `make demo` has trained; without a picture it
draws one.
"""

import sys

import deconvnet


def main(checkpoint="demo/runs/deconvnet/best", picture=None, out="segmented.png"):
    if picture is None:
        picture = deconvnet.open_dataset("scenes:size=256", "test")[0].image

    predictor = deconvnet.load(checkpoint)
    segmentation = predictor(picture)  # a path, a PIL image or uint8 (H, W, 3)

    for name, share in sorted(segmentation.share.items(), key=lambda item: -item[1]):
        print(f"{name:<12} {100 * share:5.1f} %")
    label_map, probabilities = segmentation.label_map, segmentation.probabilities
    print("label map", label_map.shape, label_map.dtype)
    print("probabilities", probabilities.shape, probabilities.dtype)
    segmentation.overlay().save(out)
    print("written:", out)


if __name__ == "__main__":
    main(*sys.argv[1:])
