"""Commands that train networks and score them: train, evaluate."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deconvnet.cli.options import (
    CHECKPOINT,
    Command,
    add_json,
    add_layout,
    add_prediction_options,
    check_writable,
    load_predictor,
    prediction_options,
    print_result,
)
from deconvnet.errors import RecipeError


def add_train(command: Command) -> None:
    settings = ""
    if "train" in sys.argv[1:2]:  # the settings are read only when they may be shown
        from deconvnet.recipe import Recipe, setting_docs

        rows = [(name, value) for name, value in Recipe().to_dict().items()]
        settings = "\n".join(
            f"  --{name} {_default_in_words(value)}\n{_wrapped(setting_docs()[name])}"
            for name, value in rows
        )
    train = command(
        "train",
        _train,
        "train a network as a recipe says",
        epilog="settings, each with its default; any of them changes the recipe:\n" + settings,
    )
    train.add_argument(
        "recipe", nargs="?", metavar="RECIPE.yaml", help="the settings of the run"
    )
    train.add_argument("--data", metavar="DIR", help="folder of the data set, or `scenes`")
    train.add_argument("--out", metavar="RUN", help="folder of the run (default: runs/NAME)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    train.add_argument("--dry_run", action="store_true", help="say what would be done")
    train.add_argument("--devices", type=int, default=1, metavar="N", help="train on N devices")


def _train(arguments: argparse.Namespace) -> None:
    from deconvnet.recipe import Recipe

    recipe = Recipe.from_file(arguments.recipe) if arguments.recipe else Recipe()
    settings: dict[str, Any] = dict(_settings(arguments.settings))
    if arguments.data is not None:
        settings["data"] = arguments.data
    if arguments.seed is not None:
        settings["seed"] = arguments.seed
    recipe = recipe.with_settings(settings)
    if recipe.stages == "two":
        from deconvnet.stages import plan_two_stages as plan
        from deconvnet.stages import train_two_stages as train
    else:
        from deconvnet.train import plan, train
    name = Path(arguments.recipe).stem if arguments.recipe else recipe.model
    out = Path(arguments.out or Path("runs") / name)
    if arguments.dry_run:
        print(plan(recipe, out, device=arguments.device))
        return
    evaluation = train(
        recipe,
        out=out,
        resume=arguments.resume,
        device=arguments.device,
        devices=arguments.devices,
        quiet=arguments.quiet,
    )
    if evaluation is not None:
        print(evaluation.to_text())
    print(f"The trained network is in {out / 'best'}; the curve is {out / 'curve.png'}.")


def add_evaluate(command: Command) -> None:
    evaluate = command("evaluate", _evaluate, "score a network on a data set")
    evaluate.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    evaluate.add_argument("data", metavar="DATA", help="folder of the data set, or `scenes`")
    evaluate.add_argument("--split", default="val", help="train, val or test (default: val)")
    add_layout(evaluate)
    evaluate.add_argument("--confusion", metavar="FILE", help="draw the confusion matrix")
    add_json(evaluate)
    add_prediction_options(evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    from deconvnet.data import open_dataset
    from deconvnet.draw import confusion_picture
    from deconvnet.evaluate import evaluate
    from deconvnet.files import written_whole

    check_writable(arguments.json, arguments.confusion)
    dataset = open_dataset(
        arguments.data,
        arguments.split,
        format=arguments.format,
        mask_values=arguments.mask_values,
    )
    predictor = load_predictor(arguments)
    options = prediction_options(arguments)
    evaluation = evaluate(
        predictor,
        dataset,
        quiet=arguments.quiet,
        segment=lambda image: predictor(image, **options),
    )
    if arguments.confusion:
        with written_whole(arguments.confusion) as temporary:
            matrix = evaluation.scores.confusion.counts
            confusion_picture(matrix, evaluation.classes, temporary)
    print_result(arguments.json, evaluation.to_json(), evaluation.to_text())


def _settings(words: Sequence[str]) -> dict[str, str]:
    """Settings from words such as `--width 0.25 --schedule=poly`."""
    settings: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = next(rest, "--")
            if value.startswith("--"):
                raise RecipeError(f"The setting '{name}' came without a value.")
        settings[name] = value
    return settings


def _default_in_words(value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 76, initial_indent="      ", subsequent_indent="      ")
