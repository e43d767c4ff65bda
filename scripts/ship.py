"""Put a trained network among those that come with the package: float16, scored, with a card.

    python scripts/ship.py RUN/best unet-em DATA --about CARD.md TERMS.md

The scores are those of the float16 weights, as `deconvnet evaluate NAME DATA --json` gives
them; they are kept in scores.json, from which docs/models.md is written anew.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from deconvnet.checkpoint import BUNDLED, load_checkpoint, save_checkpoint
from deconvnet.data import open_dataset
from deconvnet.describe import describe
from deconvnet.evaluate import evaluate, remember
from deconvnet.files import write_text
from deconvnet.predict import load

MODELS_PAGE = Path(__file__).parents[1] / "docs" / "models.md"
WHITE_BALANCES = ("warmer", "colder")
"""Lights of `deconvnet evaluate --light` that each network is scored in too."""
KEPT_BITS = 6
"""Binary digits of a weight that are shipped, behind the first."""
BEGIN, END = "<!-- scores: written by scripts/ship.py -->", "<!-- end of scores -->"


def main() -> None:
    """Ship one network, or with no arguments only write the table of all anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", help="folder of the trained network")
    parser.add_argument("name", nargs="?", help="its name in the package")
    parser.add_argument("data", nargs="?", help="data set whose val it is scored on")
    parser.add_argument("--about", type=Path, nargs="+", help="Markdown: training, data, use")
    arguments = parser.parse_args()
    if arguments.checkpoint:
        ship(arguments.checkpoint, arguments.name, arguments.data, arguments.about)
    write_models_page()


def ship(checkpoint: str, name: str, data: str, about: list[Path]) -> None:
    """Store the weights in float16, score what was stored, and write its card."""
    loaded = load_checkpoint(checkpoint)
    loaded.network.load_state_dict(
        {name: shortened(value) for name, value in loaded.network.state_dict().items()}
    )
    recipe = {
        **loaded.config.recipe,
        "data": Path(data).name,
        "start_from": None,
        "teacher": None,
    }
    folder = save_checkpoint(
        BUNDLED / name,
        loaded.network,
        replace(loaded.config, recipe=recipe),
        dtype=torch.float16,
    )
    evaluation = evaluate(load(folder), open_dataset(data, "val"))
    remember(folder, evaluation, open_dataset(data, "train"))
    in_light = {
        light: evaluate(load(folder), open_dataset(data, "val"), light=light)
        for light in WHITE_BALANCES
    }
    config = loaded.config
    cost = describe(loaded.network, size=224, in_channels=config.in_channels).to_json()
    scores = {
        **evaluation.to_json(),
        "mean_iou_in_light": {name: e.to_json()["mean_iou"] for name, e in in_light.items()},
        "data": Path(data).name,
        "model": config.model,
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "multiply_adds_224": cost["multiply_adds"],
    }
    write_text(folder / "scores.json", json.dumps(scores, indent=2) + "\n")
    told = "\n\n".join(file.read_text(encoding="utf-8").strip() for file in about)
    write_text(
        folder / "README.md",
        f"---\nlibrary_name: deconvnet\npipeline_tag: image-segmentation\n---\n# {name}\n\n"
        f"{config.model}, width {config.options['width']:g}, "
        f"{scores['parameters'] / 1e6:.2f} M parameters, {len(config.classes)} classes: "
        f"{', '.join(config.classes.names)}.\n\n"
        f"```\ndeconvnet predict {name} PICTURE --out DIR\n```\n\n"
        f"{told}\n\n## Scores\n\n"
        f"By `deconvnet evaluate {name} DATA` with its defaults, in percent, of the shipped "
        f"float16 weights:\n\n```\n{evaluation.to_text()}\n```\n\n"
        "In another light (`--light NAME`), mIoU: "
        + ", ".join(
            f"{light} {percent(e.to_json()['mean_iou'])}" for light, e in in_light.items()
        )
        + ".\n",
    )


def shortened(weights: torch.Tensor) -> torch.Tensor:
    """Weights rounded to KEPT_BITS binary digits behind the first, of float16's 10.

    A wheel and the repository's history, which compress, hold the others as zeros: three
    quarters of the size. The fcn8s-camvid of 2026-11-28, 03:00, had 60.8 mIoU on val with 10, 7
    and 6 of them, and 60.4 with 5.
    """
    if not weights.is_floating_point():
        return weights
    half_step = 1 << (9 - KEPT_BITS)
    bits = weights.half().view(torch.int16).int() + half_step
    return (bits & -2 * half_step).short().view(torch.float16).to(weights.dtype)


def write_models_page() -> None:
    """Write the table of docs/models.md anew from the scores of every bundled network."""
    rows = [
        "| network | parameters | multiply-adds at 224 | data | mIoU "
        "| warmer, colder | boundary F1 | small / medium / large |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for file in sorted(BUNDLED.glob("*/scores.json")):
        scores = json.loads(file.read_text(encoding="utf-8"))
        bands = " / ".join(percent(score) for score in scores["iou_by_size"].values())
        in_light = scores.get("mean_iou_in_light", {})
        lights = ", ".join(percent(in_light.get(light)) for light in WHITE_BALANCES)
        rows.append(
            f"| `{file.parent.name}` | {scores['parameters'] / 1e6:.2f} M | "
            f"{scores['multiply_adds_224'] / 1e9:.2f} G | {scores['data']} {scores['split']} | "
            f"{percent(scores['mean_iou'])} | {lights} | "
            f"{percent(scores['boundary_f1'])} | {bands} |"
        )
    text = MODELS_PAGE.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    write_text(MODELS_PAGE, text[:start] + "\n" + "\n".join(rows) + "\n" + text[end:])


def percent(score: float | None) -> str:
    """A score in percent."""
    return "–" if score is None else f"{100 * score:.1f}"


if __name__ == "__main__":
    main()
