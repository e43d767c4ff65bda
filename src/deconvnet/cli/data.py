"""Commands about pictures and weights from elsewhere: check-data, convert, download."""

import argparse

from deconvnet.cli.options import Command, add_json, add_layout, print_result


def add_check_data(command: Command) -> None:
    check = command("check-data", _check_data, "find what is wrong with a data set")
    check.add_argument("data", metavar="DATA", help="folder of the data set")
    add_layout(check)
    add_json(check)


def _check_data(arguments: argparse.Namespace) -> int:
    from deconvnet.data.doctor import examine

    report = examine(
        arguments.data,
        format=arguments.format,
        mask_values=arguments.mask_values,
        quiet=arguments.quiet,
    )
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
    download = command("download", _download, "fetch weights to start training from")
    download.add_argument("name", metavar="NAME", help="vgg16 or vgg16-bn")
    download.add_argument("--out", default=".", metavar="DIR", help="folder of the file")


def _download(arguments: argparse.Namespace) -> None:
    from deconvnet.download import download

    path = download(arguments.name, arguments.out, quiet=arguments.quiet)
    print(f"The weights are in {path}; train from them with --start_from {path}.")
