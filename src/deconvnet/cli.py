"""The command line. Nothing heavy is imported before a command is known to need it."""

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from deconvnet.errors import OutputError, RecipeError, UserError

if TYPE_CHECKING:
    from deconvnet.predict import Predictor

CHECKPOINT = "a bundled name, the folder of a checkpoint, or a Hugging Face Hub id"


class _Parser(argparse.ArgumentParser):
    """A parser that spells options with - or _ alike, and complains in one sentence."""

    def error(self, message: str) -> NoReturn:
        sentence = message[0].upper() + message[1:]
        print(f"{self.prog}: {sentence}; see `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit status: 0, 1 (check-data), 2 (a mistake), 130 (Ctrl-C)."""
    words = [_with_underscores(word) for word in (sys.argv[1:] if argv is None else argv)]
    try:
        words, settings = _without_settings(words) if words[:1] == ["train"] else (words, [])
        arguments, rest = _parser().parse_known_args(words)
        if rest:
            arguments.parser.error(f"there is no option or argument '{rest[0]}' here")
        arguments.settings = settings
        return _run(arguments)
    except UserError as error:
        print(f"deconvnet: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("deconvnet: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int | None] = arguments.run
    if getattr(arguments, "threads", None) is not None:
        import torch

        if arguments.threads < 1:
            arguments.parser.error(f"--threads is {arguments.threads}; it must be at least 1")
        torch.set_num_threads(arguments.threads)
    return run(arguments) or 0


def _parser() -> _Parser:
    parser = _Parser(
        prog="deconvnet",
        description="Semantic segmentation with learned deconvolution: train, evaluate, "
        "predict, compare, look inside, ship.",
        epilog="Each command explains itself: deconvnet COMMAND --help",
    )
    from deconvnet import __version__

    parser.add_argument("--version", action="version", version=f"deconvnet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    common = _Parser(add_help=False)
    common.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    common.add_argument("--threads", type=int, metavar="N", help="CPU threads to use")
    common.add_argument("--seed", type=int, default=None, help="seed of everything random")
    common.add_argument("--quiet", action="store_true", help="show no progress")

    def command(
        name: str, run: Callable[[argparse.Namespace], int | None], purpose: str, **more: Any
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=purpose,
            description=purpose[0].upper() + purpose[1:] + ".",
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **more,
        )
        added.set_defaults(run=run, parser=added)
        return added

    _add_train(command)
    _add_evaluate(command)
    _add_predict(command)
    _add_describe(command)
    _add_check_data(command)
    _add_convert(command)
    _add_download(command)
    _add_bench(command)
    _add_demo(command)
    return parser


Command = Callable[..., argparse.ArgumentParser]


def _add_train(command: Command) -> None:
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


def _add_evaluate(command: Command) -> None:
    evaluate = command("evaluate", _evaluate, "score a network on a data set")
    evaluate.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    evaluate.add_argument("data", metavar="DATA", help="folder of the data set, or `scenes`")
    evaluate.add_argument("--split", default="val", help="train, val or test (default: val)")
    _add_layout(evaluate)
    evaluate.add_argument("--confusion", metavar="FILE", help="draw the confusion matrix")
    _add_json(evaluate)
    _add_prediction_options(evaluate)


def _evaluate(arguments: argparse.Namespace) -> None:
    from deconvnet.data import open_dataset
    from deconvnet.draw import confusion_picture
    from deconvnet.evaluate import evaluate
    from deconvnet.files import written_whole

    _check_writable(arguments.json, arguments.confusion)
    dataset = open_dataset(
        arguments.data,
        arguments.split,
        format=arguments.format,
        mask_values=arguments.mask_values,
    )
    predictor = _predictor(arguments)
    options = _prediction_options(arguments)
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
    _print_result(arguments.json, evaluation.to_json(), evaluation.to_text())


def _add_predict(command: Command) -> None:
    predict = command("predict", _predict, "segment pictures")
    predict.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    predict.add_argument("inputs", nargs="+", metavar="IMAGE|FOLDER", help="what to segment")
    predict.add_argument("--out", required=True, metavar="DIR", help="where masks are written")
    predict.add_argument(
        "--shard", metavar="i/n", help="take every n-th picture, from the i-th"
    )
    predict.add_argument(
        "--max_pixels",
        type=int,
        metavar="N",
        help="refuse larger pictures (decompression bombs)",
    )
    predict.add_argument(
        "--voc_submission", metavar="FILE.tgz", help="pack the masks for the PASCAL VOC server"
    )
    _add_prediction_options(predict)


def _predict(arguments: argparse.Namespace) -> None:
    from deconvnet.predict_files import predict_files

    _check_writable(arguments.voc_submission)
    predict_files(
        lambda: _predictor(arguments),
        arguments.inputs,
        arguments.out,
        shard=arguments.shard,
        max_pixels=arguments.max_pixels,
        voc_submission=arguments.voc_submission,
        quiet=arguments.quiet,
        report=print,
        **_prediction_options(arguments),
    )


def _add_describe(command: Command) -> None:
    describe = command("describe", _describe, "show the layers of a network and what they cost")
    describe.add_argument(
        "network", metavar="MODEL|CHECKPOINT", help=f"a model or {CHECKPOINT}"
    )
    describe.add_argument("--num_classes", type=int, default=21)
    describe.add_argument("--in_channels", type=int, default=3)
    describe.add_argument(
        "--width", type=float, default=1.0, help="scale of every channel count"
    )
    describe.add_argument("--size", type=int, default=224, help="side of the picture in pixels")
    _add_json(describe)


def _describe(arguments: argparse.Namespace) -> None:
    from deconvnet.describe import describe
    from deconvnet.models import MODELS, build_model

    if arguments.network in MODELS:
        network = build_model(
            arguments.network,
            arguments.num_classes,
            in_channels=arguments.in_channels,
            width=arguments.width,
        )
        in_channels = arguments.in_channels
    else:
        from deconvnet.checkpoint import load_checkpoint

        loaded = load_checkpoint(arguments.network)
        network, in_channels = loaded.network, loaded.config.in_channels
    description = describe(network, size=arguments.size, in_channels=in_channels)
    _print_result(arguments.json, description.to_json(), str(description))


def _add_check_data(command: Command) -> None:
    check = command("check-data", _check_data, "find what is wrong with a data set")
    check.add_argument("data", metavar="DATA", help="folder of the data set")
    _add_layout(check)
    _add_json(check)


def _check_data(arguments: argparse.Namespace) -> int:
    from deconvnet.data.doctor import examine

    report = examine(
        arguments.data,
        format=arguments.format,
        mask_values=arguments.mask_values,
        quiet=arguments.quiet,
    )
    _print_result(arguments.json, report.to_json(), report.to_text())
    return 0 if report.can_train else 1


def _add_convert(command: Command) -> None:
    convert = command("convert", _convert, "turn weights of Caffe or torchvision into ours")
    convert.add_argument("source", metavar="FILE", help=".caffemodel, or VGG-16 as .pth")
    convert.add_argument("--model", required=True, metavar="NAME", help="deconvnet, fcn8s, ...")
    convert.add_argument("--out", required=True, metavar="DIR", help="folder of the checkpoint")
    convert.add_argument(
        "--batch_norm",
        choices=["auto", "inference", "learn"],
        default="auto",
        help="what the batch norm of a Caffe fork holds, where the file does not say",
    )
    convert.add_argument(
        "--num_classes", type=int, help="for a start from torchvision's VGG-16"
    )


def _convert(arguments: argparse.Namespace) -> None:
    from deconvnet.convert import convert

    written = convert(
        arguments.source,
        arguments.model,
        arguments.out,
        batch_norm=arguments.batch_norm,
        num_classes=arguments.num_classes,
    )
    print(f"The weights are in {written}.")


def _add_bench(command: Command) -> None:
    bench = command(
        "bench", _bench, "measure how fast this machine is, and how fast we are on it"
    )
    bench.add_argument(
        "what",
        nargs="?",
        default="all",
        metavar="WHAT",
        help="machine, inference, training, loading, startup, proposals, crf or all",
    )
    add = bench.add_argument
    add("--networks", metavar="A,B", help="networks to time (default: one of each kind)")
    add(
        "--width",
        type=float,
        default=0.25,
        help="scale of their channel counts; 1 as published",
    )
    add("--size", type=int, default=224, help="side of the pictures in pixels")
    add(
        "--data",
        default="scenes",
        metavar="DATA",
        help="data set with instances, for proposals",
    )
    _add_json(bench)


def _bench(arguments: argparse.Namespace) -> None:
    from deconvnet.bench import NETWORKS, Settings, run

    _check_writable(arguments.json)
    networks = tuple(arguments.networks.split(",")) if arguments.networks else NETWORKS
    settings = Settings(arguments.width, arguments.size, arguments.data, networks)
    report = run(arguments.what, settings, quiet=arguments.quiet)
    _print_result(arguments.json, report.to_json(), report.to_text())


def _add_download(command: Command) -> None:
    download = command("download", _download, "fetch weights to start training from")
    download.add_argument("name", metavar="NAME", help="vgg16 or vgg16-bn")
    download.add_argument("--out", default=".", metavar="DIR", help="folder of the file")


def _download(arguments: argparse.Namespace) -> None:
    from deconvnet.download import download

    path = download(arguments.name, arguments.out, quiet=arguments.quiet)
    print(f"The weights are in {path}; train from them with --start_from {path}.")


def _add_demo(command: Command) -> None:
    demo = command(
        "demo", _demo, "train and compare two small networks on drawn pictures, in minutes"
    )
    demo.add_argument(
        "--out", default="demo", metavar="DIR", help="where index.html is written"
    )


def _demo(arguments: argparse.Namespace) -> None:
    from deconvnet.demo import demo

    page = demo(arguments.out, seed=arguments.seed or 0, quiet=arguments.quiet)
    print(f"Open {page} in a browser.")


def _add_prediction_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--proposals", type=int, default=0, metavar="N", help="segment N object proposals")
    add("--aggregate", choices=["max", "mean"], default="max", help="how proposals are joined")
    add("--ensemble", metavar="CHECKPOINT", help="combine with a second network")
    add("--combine", choices=["mean", "product"], default=None, help="how (default: mean)")
    add("--crf", action="store_true", help="refine with the dense CRF")
    add("--protocol", choices=["paper", "release"], default="paper", help="where they differ")
    add("--tile", type=int, metavar="N", help="side of the tiles for large pictures")
    add("--tta", action="store_true", help="average over the picture and its mirror image")
    add("--engine", choices=["torch", "native", "openvino"], default="torch")
    add("--precision", choices=["fp32", "int8"], default="fp32")


def _prediction_options(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ("proposals", "aggregate", "combine", "crf", "protocol", "tile", "tta")
    options = {name: getattr(arguments, name) for name in names}
    for name in ("proposals", "tile"):
        if options[name] is not None and options[name] < 0:
            arguments.parser.error(f"--{name} is {options[name]}; it must not be negative")
    if arguments.ensemble:
        options["ensemble"] = _predictor(arguments, arguments.ensemble)
    elif arguments.combine:
        arguments.parser.error("--combine needs --ensemble, the network to combine with")
    return options


def _predictor(arguments: argparse.Namespace, checkpoint: str | None = None) -> "Predictor":
    from deconvnet.predict import load

    return load(
        checkpoint or arguments.checkpoint,
        engine=arguments.engine,
        precision=arguments.precision,
        device=arguments.device,
    )


def _add_layout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", help="layout of the folder, where it is not recognised")
    parser.add_argument(
        "--mask_values",
        type=_numbers,
        metavar="A,B",
        help="for plain folders: the number in the masks for each class, such as 0,255",
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write JSON to FILE, else to stdout",
    )


def _print_result(json_place: str | None, values: Any, text: str) -> None:
    """Print the table, and write the JSON; alone on stdout when no file is named."""
    import json

    if json_place == "-":
        print(json.dumps(values, indent=2))
        return
    print(text)
    if json_place:
        from deconvnet.files import write_text

        write_text(json_place, json.dumps(values, indent=2) + "\n")


def _check_writable(*places: str | None) -> None:
    """Refuse an output file that cannot be written before the work, not after it."""
    for place in places:
        if place not in {None, "-"} and Path(str(place)).is_dir():
            raise OutputError(f"{place} is a folder; name a file to write.")


TRAIN_FLAGS = {"--resume", "--dry_run", "--quiet", "--help", "-h"}
TRAIN_OPTIONS = {"--data", "--out", "--devices", "--device", "--threads", "--seed"}
"""What `train` takes beside the settings of a recipe."""


def _without_settings(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of `train` that argparse is to see, and those that set the recipe.

    argparse would take the value of an option it does not know for the recipe's name.
    """
    kept: list[str] = []
    settings: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        into = kept if name in TRAIN_FLAGS | TRAIN_OPTIONS or name[:2] != "--" else settings
        into.append(word)
        if name[:2] == "--" and not equals and name not in TRAIN_FLAGS:
            into.extend(itertools.islice(rest, 1))
    return kept, settings


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


def _with_underscores(word: str) -> str:
    """An option with _ for -, so that both spellings are one."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


def _default_in_words(value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 76, initial_indent="      ", subsequent_indent="      ")
