"""Commands that use a trained network: predict, serve, export."""

import argparse
from typing import TYPE_CHECKING, Any

from deconvnet.cli.options import (
    CHECKPOINT,
    Command,
    add_engine,
    add_prediction_options,
    check_writable,
    load_predictor,
    prediction_options,
)

if TYPE_CHECKING:
    from deconvnet.predict_files import Outputs


def add_predict(command: Command) -> None:
    predict = command("predict", _predict, "segment pictures")
    predict.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    predict.add_argument(
        "inputs",
        nargs="+",
        metavar="IMAGE|FOLDER|VIDEO",
        help="what to segment; camera:0 is the first camera",
    )
    predict.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write the results into"
    )
    predict.add_argument(
        "--shard", metavar="i/n", help="take every n-th picture, from the i-th"
    )
    predict.add_argument(
        "--resume", action="store_true", help="skip what was finished with the same settings"
    )
    predict.add_argument(
        "--max_pixels",
        type=int,
        metavar="N",
        help="refuse larger pictures (decompression bombs; default: 200 million)",
    )
    add = predict.add_argument
    add("--no_overlay", action="store_true", help="write masks alone")
    add(
        "--uncertainty",
        choices=["entropy", "flips", "dropout"],
        help="write where the network is unsure, and rank the pictures by it in doubt.csv",
    )
    add(
        "--samples",
        type=int,
        default=8,
        metavar="N",
        help="passes of --uncertainty dropout (default: 8)",
    )
    add(
        "--annotations",
        choices=["coco", "labelme", "cvat", "geojson"],
        help="also write a labelling tool's files, the most doubtful pictures first",
    )
    add(
        "--simplify",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="how far polygons may leave the edges, for fewer corners (default: 0, exact)",
    )
    add("--every", type=int, default=1, metavar="N", help="of a film, every n-th frame")
    add("--max_frames", type=int, metavar="N", help="of a film, so many frames at most")
    add("--frame_masks", action="store_true", help="of a film, also the mask of each frame")
    add(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="share the work by Ray: on this machine, or on the cluster at ADDRESS",
    )
    add("--workers", type=int, default=1, metavar="N", help="processes of Ray (default: 1)")
    predict.add_argument(
        "--voc_submission", metavar="FILE.tgz", help="pack the masks for the PASCAL VOC server"
    )
    add_prediction_options(predict)


def _predict(arguments: argparse.Namespace) -> None:
    from deconvnet.predict_files import Outputs, predict_files
    from deconvnet.videos import VideoOptions

    check_writable(arguments.voc_submission)
    outputs = Outputs(
        overlay=not arguments.no_overlay,
        annotations=arguments.annotations,
        simplify=arguments.simplify,
        voc_submission=arguments.voc_submission,
        videos=VideoOptions(arguments.every, arguments.max_frames, arguments.frame_masks),
    )
    options = prediction_options(arguments)
    uncertainty = arguments.uncertainty or ("entropy" if arguments.annotations else None)
    if uncertainty:
        options |= {"uncertainty": uncertainty, "samples": arguments.samples}
        options["seed"] = arguments.seed or 0
    if arguments.ray is not None:
        _predict_by_ray(arguments, outputs, options)
        return
    predict_files(
        lambda: load_predictor(arguments),
        arguments.inputs,
        arguments.out,
        shard=arguments.shard,
        max_pixels=arguments.max_pixels,
        outputs=outputs,
        resume=arguments.resume,
        quiet=arguments.quiet,
        report=print,
        **options,
    )


def _predict_by_ray(
    arguments: argparse.Namespace, outputs: "Outputs", options: dict[str, Any]
) -> None:
    from deconvnet.predict_ray import Workers, predict_by_ray

    if arguments.ensemble or arguments.shard:
        arguments.parser.error("--ray goes with neither --ensemble nor --shard")
    workers = Workers(
        arguments.workers,
        arguments.threads or 1,
        None if arguments.ray == "local" else arguments.ray,
    )
    predict_by_ray(
        lambda: load_predictor(arguments),
        arguments.inputs,
        arguments.out,
        workers=workers,
        max_pixels=arguments.max_pixels,
        outputs=outputs,
        resume=arguments.resume,
        report=print,
        **options,
    )


LIMITS = {
    "upload_bytes": "largest request",
    "pixels": "most pixels of a picture",
    "score_pixels": "most pixels with proposals or the CRF",
    "proposals": "most proposals of a request",
    "workers": "requests worked on at the same time",
    "queue": "requests that may wait; further ones hear 503",
    "seconds": "time of a request, waiting included",
    "header_bytes": "largest headers",
    "connections": "open connections; further ones hear 503",
    "patience": "seconds a slow client is waited for",
    "grace": "seconds that work is given to finish at the end",
    "kept_bytes": "memory for looking inside the latest pictures",
}
"""What the options of `serve` that are limits do."""


def add_serve(command: Command) -> None:
    from deconvnet.web.limits import Limits

    serve = command("serve", _serve, "open a web page and an API on networks")
    add = serve.add_argument
    add("checkpoints", nargs="+", metavar="CHECKPOINT", help=CHECKPOINT)
    add("--port", type=int, default=8000, help="port to listen on; 0: a free one")
    add(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine alone)"
    )
    add("--token", help="ask for this token; also read from DECONVNET_TOKEN")
    add_engine(serve)
    for name, purpose in LIMITS.items():
        default = getattr(Limits(), name)
        text = f"{purpose} (default: {default:,})"
        add(f"--{name}", type=type(default), default=default, metavar="N", help=text)


def _serve(arguments: argparse.Namespace) -> None:
    import os

    from deconvnet.web import require_extra
    from deconvnet.web.limits import Limits

    require_extra()
    limits = Limits(**{name: getattr(arguments, name) for name in LIMITS})
    from deconvnet.web.serve import serve

    serve(
        arguments.checkpoints,
        host=arguments.host,
        port=arguments.port,
        token=arguments.token or os.environ.get("DECONVNET_TOKEN") or None,
        limits=limits,
        quiet=arguments.quiet,
        say=lambda line: print(line, flush=True),
        engine=arguments.engine,
        precision=arguments.precision,
        device=arguments.device,
    )


def add_export(command: Command) -> None:
    """Add `export`."""
    export = command(
        "export", _export, "write a network as a file that runs without this program"
    )
    export.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    export.add_argument("--to", required=True, metavar="FORMAT", help="onnx, openvino or torch")
    export.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write the file into"
    )
    export.add_argument(
        "--check",
        metavar="IMAGE|FOLDER",
        help="pictures to compare the file with the network on (default: drawn ones)",
    )


def _export(arguments: argparse.Namespace) -> None:
    from deconvnet.export import export

    exported = export(
        arguments.checkpoint,
        arguments.to,
        arguments.out,
        check=arguments.check,
        quiet=arguments.quiet,
    )
    print(exported.to_text())
