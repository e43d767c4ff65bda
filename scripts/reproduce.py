"""Run a recipe again and see whether it reaches the score its header promises.

    .venv/bin/python scripts/reproduce.py recipes/scenes-unet-small.yaml

The header holds a line such as `# Expect:  mIoU 0.512 on val, within 0.030 over seeds 0, 1, 2.`
Exit status 1 if the score lies further from it.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from deconvnet.recipe import Recipe
from deconvnet.train import train

PROMISE = re.compile(r"# Expect: +mIoU (0\.\d+) on val, within (0\.\d+)")


def main() -> int:
    """Train, compare, say so."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    promise = PROMISE.search(arguments.recipe.read_text(encoding="utf-8"))
    if promise is None:
        parser.error(f"{arguments.recipe} promises no score with a spread in its header")
    expected, spread = map(float, promise.groups())
    recipe = Recipe.from_file(arguments.recipe).with_settings({"seed": arguments.seed})
    with tempfile.TemporaryDirectory() as folder:
        evaluation = train(recipe, out=Path(folder) / "run")
    if evaluation is None:
        parser.error(f"{arguments.recipe} has no val to be scored on")
    reached = evaluation.to_json()["mean_iou"]
    kept = abs(reached - expected) <= spread
    print(
        f"mIoU {reached:.3f}; the header promises {expected:.3f} within {spread:.3f}: "
        + ("reproduced." if kept else "NOT reproduced.")
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
