"""Commands about pictures and weights from elsewhere: check-data, convert, download."""

import argparse
import sys

from deconvnet.cli.options import Command, add_json, add_layout, check_writable, print_result


def add_check_data(command: Command) -> None:
    check = command("check-data", _check_data, "find what is wrong with a data set")
    check.add_argument("data", metavar="DATA", help="folder of the data set")
    add_layout(check)
    add_json(check)
    check.add_argument("--sheet", metavar="FILE", help="write an HTML page with the suspects")


def _check_data(arguments: argparse.Namespace) -> int:
    from deconvnet.data.doctor import examine

    check_writable(arguments.json, arguments.sheet)
    report = examine(
        arguments.data,
        format=arguments.format,
        mask_values=arguments.mask_values,
        quiet=arguments.quiet,
    )
    if arguments.sheet:
        from deconvnet.data_sheet import write_sheet

        write_sheet(report, arguments.sheet)
    print_result(arguments.json, report.to_json(), report.to_text())
    return 0 if report.can_train else 1


def add_convert(command: Command) -> None:
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


def add_download(command: Command) -> None:
    download = command("download", _download, "fetch data sets and weights")
    download.add_argument(
        "name",
        metavar="NAME",
        help="voc2012, sbd, camvid, camvid32, isbi2012, vgg16 or vgg16-bn",
    )
    download.add_argument("--out", default=".", metavar="DIR", help="folder to put it into")
    download.add_argument("--yes", action="store_true", help="agree to the terms shown")


def _download(arguments: argparse.Namespace) -> None:
    from deconvnet.download import PUBLISHED, download

    def agree(terms: str) -> bool:
        print(f"{arguments.name}: {terms}", file=sys.stderr)
        return arguments.yes or _said_yes("Do you agree, and download it? [y/N] ")

    path = download(arguments.name, arguments.out, quiet=arguments.quiet, agree=agree)
    if PUBLISHED[arguments.name].weights:
        print(f"The weights are in {path}; train from them with --start_from {path}.")
    else:
        print(f"The data set is in {path}; look at it with: deconvnet check-data {path}")


def _said_yes(question: str) -> bool:
    """Ask where there is a terminal to ask; elsewhere the answer is no."""
    if not sys.stdin.isatty():
        return False
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
