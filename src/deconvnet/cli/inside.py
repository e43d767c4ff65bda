"""Commands that show what is inside a network: describe."""

import argparse

from deconvnet.cli.options import CHECKPOINT, Command, add_json, print_result


def add_describe(command: Command) -> None:
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
    add_json(describe)


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
    print_result(arguments.json, description.to_json(), str(description))
