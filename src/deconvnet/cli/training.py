"""Commands that train networks and score them: train, evaluate, compare, ablate."""

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
    numbers,
    prediction_options,
    print_result,
    words,
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
    train.add_argument(
        "--find_learning_rate",
        action="store_true",
        help="try rising learning rates, say which to use, and draw RUN-learning-rate.png",
    )
    train.add_argument(
        "--fit_memory",
        metavar="SIZE",
        help="split each step into passes that fit into this much memory, such as 4GB",
    )
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
    from deconvnet.memory import bytes_in
    from deconvnet.train import find_learning_rate, plan, train

    limit = bytes_in(arguments.fit_memory) if arguments.fit_memory else None
    name = Path(arguments.recipe).stem if arguments.recipe else recipe.model
    out = Path(arguments.out or Path("runs") / name)
    if arguments.dry_run:
        how = {"device": arguments.device, "devices": arguments.devices}
        print(plan(recipe, out, fit_memory=limit, **how))
        return
    if arguments.find_learning_rate:
        found = find_learning_rate(recipe, out, device=arguments.device, quiet=arguments.quiet)
        drawn = out.with_name(f"{out.name}-learning-rate.png")
        found.draw(drawn)
        print(f"{found.to_text()}\nThe curve is {drawn}.")
        return
    evaluation = train(
        recipe,
        out=out,
        resume=arguments.resume,
        device=arguments.device,
        devices=arguments.devices,
        fit_memory=limit,
        quiet=arguments.quiet,
    )
    from lightning_fabric.utilities.rank_zero import rank_zero_only

    if rank_zero_only.rank != 0:  # the first process has said it
        return
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
    evaluate.add_argument(
        "--reliability", metavar="FILE", help="draw how sure the network is, and how right"
    )
    evaluate.add_argument(
        "--light",
        choices=["warmer", "colder", "brighter", "darker", "flatter"],
        help="put the pictures in another light first, to see how much the score hangs on it",
    )
    evaluate.add_argument(
        "--yes", action="store_true", help="score on the training pictures all the same"
    )
    evaluate.add_argument(
        "--remember",
        action="store_true",
        help="note in the checkpoint what these and the training pictures are like, so that "
        "predict tells pictures that are unlike them (training does so by itself)",
    )
    add_json(evaluate)
    add_prediction_options(evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    from deconvnet.data import open_dataset
    from deconvnet.draw import confusion_picture, reliability_picture
    from deconvnet.evaluate import (
        calibration_of,
        evaluate,
        own_checkpoint,
        refuse_training_split,
        remember,
    )
    from deconvnet.files import written_whole

    check_writable(arguments.json, arguments.confusion, arguments.reliability)
    if not arguments.yes:
        refuse_training_split(arguments.split)
    if arguments.reliability and arguments.tile:
        arguments.parser.error(
            "--reliability needs probabilities, and tiles keep none; leave out --tile"
        )
    layout = {"format": arguments.format, "mask_values": arguments.mask_values}
    training = None
    if arguments.remember:
        own_checkpoint(arguments.checkpoint)
        training = open_dataset(arguments.data, "train", **layout)
        for name in ("light", "proposals", "ensemble", "crf", "crf_settings"):
            if getattr(arguments, name):
                arguments.parser.error(
                    "--remember notes what the pictures are like and how sure the network "
                    f"alone is of them; leave out --{name}"
                )
    dataset = open_dataset(arguments.data, arguments.split, **layout)
    predictor = load_predictor(arguments)
    options = prediction_options(arguments)
    evaluation = evaluate(
        predictor,
        dataset,
        quiet=arguments.quiet,
        segment=lambda image: predictor(image, **options),
        light=arguments.light,
    )
    if arguments.confusion:
        with written_whole(arguments.confusion) as temporary:
            matrix = evaluation.scores.confusion.counts
            confusion_picture(matrix, evaluation.classes, temporary)
    if arguments.reliability:
        calibration = calibration_of(evaluation)
        with written_whole(arguments.reliability) as temporary:
            reliability_picture(
                calibration.bin_confidence,
                calibration.bin_accuracy,
                calibration.pixels,
                temporary,
                error=calibration.expected_calibration_error,
            )
    if training is not None:
        remember(arguments.checkpoint, evaluation, training)
    print_result(arguments.json, evaluation.to_json(), evaluation.to_text())


def add_compare(command: Command) -> None:
    compare = command("compare", _compare, "set networks against each other, as a page to open")
    compare.add_argument(
        "words",
        nargs="+",
        metavar="CHECKPOINT CHECKPOINT... DATA|IMAGE...",
        help="two networks or more, then a data set or pictures; the first is the yardstick",
    )
    compare.add_argument(
        "--out", required=True, metavar="DIR", help="where the page is written"
    )
    compare.add_argument("--split", default="val", help="train, val or test (default: val)")
    compare.add_argument(
        "--sheet", type=int, default=4, metavar="N", help="pictures shown of either end (4)"
    )
    add_layout(compare)
    add_prediction_options(compare)


def _compare(arguments: argparse.Namespace) -> None:
    from deconvnet.compare import compare, open_contenders, open_source, told_apart
    from deconvnet.compare_page import check_out, write_comparison

    if arguments.sheet < 1:
        arguments.parser.error(f"--sheet is {arguments.sheet}; it must be at least 1")
    checkpoints, rest = told_apart(arguments.words)
    out = check_out(arguments.out)
    source = open_source(
        rest, arguments.split, format=arguments.format, mask_values=arguments.mask_values
    )
    contenders = open_contenders(
        checkpoints,
        lambda checkpoint: load_predictor(arguments, checkpoint),
        **prediction_options(arguments),
    )
    comparison = compare(contenders, source, seed=arguments.seed or 0, quiet=arguments.quiet)
    index = write_comparison(comparison, out, shown=arguments.sheet)
    print(f"{comparison.to_text()}\n\nOpen {index} in a browser.")


def add_ablate(command: Command) -> None:
    ablate = command(
        "ablate", _ablate, "train and predict in variants, and tabulate what each part brings"
    )
    ablate.add_argument(
        "sources", nargs="+", metavar="RECIPE|CHECKPOINT", help="what to vary, or to measure"
    )
    add = ablate.add_argument
    add("--out", required=True, metavar="DIR", help="folder of the runs, tables and plot")
    add("--data", metavar="DATA", help="data set to train and measure on (default: its own)")
    add("--split", default="val", help="split to measure on (default: val)")
    add("--pictures", type=int, metavar="N", help="measure on N pictures, evenly spread")
    add("--unpooling", metavar="A,B", help="unpoolings, each with each of --stages")
    add("--stages", metavar="one,two", help="numbers of training stages")
    add(
        "--vary",
        action="append",
        default=[],
        metavar="SETTING=A,B",
        help="values of any setting, one at a time against the recipe; may be repeated",
    )
    add("--grid", action="store_true", help="combine all values of --vary instead")
    add("--seeds", type=numbers, default=[], metavar="0,1,2", help="train each with each seed")
    add("--proposals", type=numbers, default=[0], metavar="0,10,50", help="predict with each")
    add("--aggregate", type=words, default=["max"], metavar="max,mean", help="join them so")
    add("--ensemble", metavar="CHECKPOINT|RECIPE", help="also together with this network")
    add("--crf", action="store_true", help="also with the dense CRF")
    add("--search", choices=["crf"], help="find settings of the CRF for one CHECKPOINT instead")
    add("--dry_run", action="store_true", help="say what would be done")


def _ablate(arguments: argparse.Namespace) -> None:
    if arguments.search == "crf":
        _search_crf(arguments)
        return
    from deconvnet.ablate import Grid, ablate, plan, values_of
    from deconvnet.ablation_table import write_tables

    crossed = dict(
        values_of(f"{name}={getattr(arguments, name)}")
        for name in ("unpooling", "stages")
        if getattr(arguments, name) is not None
    )
    varied = dict(map(values_of, arguments.vary))
    if arguments.grid:
        crossed, varied = {**crossed, **varied}, {}
    if unknown := set(arguments.aggregate) - {"max", "mean"}:
        named = ", ".join(sorted(unknown))
        raise RecipeError(f"--aggregate is {named}; it can be max, mean or max,mean.")
    seeds = arguments.seeds or ([] if arguments.seed is None else [arguments.seed])
    grid = Grid(
        crossed,
        varied,
        seeds,
        arguments.proposals,
        arguments.aggregate,
        arguments.crf,
        arguments.ensemble,
    )
    made = plan(
        arguments.sources,
        grid,
        arguments.out,
        data=arguments.data,
        split=arguments.split,
        pictures=arguments.pictures,
    )
    if arguments.dry_run:
        print(made.to_text())
        return
    rows = ablate(made, device=arguments.device, quiet=arguments.quiet)
    print(write_tables(made.out, rows))
    print(f"The table is in {made.out / 'table.md'}, the plot in {made.out / 'plot.png'}.")


def _search_crf(arguments: argparse.Namespace) -> None:
    from deconvnet.crf_search import PICTURES, check_search, search_crf, write_search
    from deconvnet.data import open_dataset
    from deconvnet.files import refuse_unwritable_folder
    from deconvnet.predict import load

    if len(arguments.sources) != 1:
        arguments.parser.error("--search crf takes one checkpoint")
    predictor = load(arguments.sources[0], device=arguments.device)
    data = str(arguments.data or predictor.config.recipe.get("data", ""))
    if not data:
        arguments.parser.error(
            "--search crf needs --data: the checkpoint does not say its data set"
        )
    dataset = open_dataset(data, arguments.split)
    pictures = PICTURES if arguments.pictures is None else arguments.pictures
    check_search(predictor, dataset, pictures)
    refuse_unwritable_folder(Path(arguments.out), "the search")
    if arguments.dry_run:
        count = min(pictures, len(dataset))
        print(
            f"search     on {count // 2} pictures of {data}\nreport     on {count - count // 2}"
        )
        return
    found = search_crf(predictor, dataset, pictures=pictures, quiet=arguments.quiet)
    path = write_search(found, arguments.out)
    print(f"{found.to_text()}\n\nEverything tried is in {path}.")


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
