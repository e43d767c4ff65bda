"""Train a small U-Net on pictures that the program draws, and score it on others.

python examples/02_train_on_drawn_pictures.py [STEPS [OUT]]
"""

import sys

from deconvnet import Recipe, load
from deconvnet.train import train


def main(steps="60", out="runs/drawn"):
    recipe = Recipe(
        model="unet",
        width=1 / 16,  # 1 is the published network
        batch_norm=True,
        data="scenes:size=64,count=24",  # or a folder with images/ and masks/
        crop_size=64,
        scale_range=(1.0, 1.0),
        steps=int(steps),
        batch_size=4,
        learning_rate=0.004,
        val_pictures=8,  # while training; the end takes all of val
    )
    evaluation = train(recipe, out=out, device="cpu")
    print(evaluation.to_text())

    predictor = load(f"{out}/best")  # what `train` wrote is used like any checkpoint
    print("classes:", ", ".join(predictor.classes.names))


if __name__ == "__main__":
    main(*sys.argv[1:])
