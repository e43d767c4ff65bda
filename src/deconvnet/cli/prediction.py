"""Commands that use a trained network: predict."""

import argparse

from deconvnet.cli.options import (
    CHECKPOINT,
    Command,
    add_prediction_options,
    check_writable,
    load_predictor,
    prediction_options,
)


def add_predict(command: Command) -> None:
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
    add_prediction_options(predict)


def _predict(arguments: argparse.Namespace) -> None:
    from deconvnet.predict_files import predict_files

    check_writable(arguments.voc_submission)
    predict_files(
        lambda: load_predictor(arguments),
        arguments.inputs,
        arguments.out,
        shard=arguments.shard,
        max_pixels=arguments.max_pixels,
        voc_submission=arguments.voc_submission,
        quiet=arguments.quiet,
        report=print,
        **prediction_options(arguments),
    )
