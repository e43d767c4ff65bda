"""Commands that show what is inside a network: describe, explain, figure."""

import argparse
from typing import TYPE_CHECKING, Any

from deconvnet.cli.options import (
    CHECKPOINT,
    Command,
    add_json,
    check_writable,
    numbers,
    print_result,
)

if TYPE_CHECKING:
    from deconvnet.explain import Explanation
    from deconvnet.inside import Inside
    from deconvnet.tracing_pictures import ProjectedPicture, TracedPicture


def add_describe(command: Command) -> None:
    describe = command("describe", _describe, "show the layers of a network and what they cost")
    describe.add_argument(
        "network", metavar="MODEL|CHECKPOINT", help=f"a model or {CHECKPOINT}"
    )
    describe.add_argument("--num_classes", type=int, default=21, help="of a model (21)")
    describe.add_argument("--in_channels", type=int, default=3, help="of a model (3)")
    describe.add_argument(
        "--width", type=float, default=1.0, help="scale of every channel count"
    )
    describe.add_argument("--size", type=int, default=224, help="side of the picture in pixels")
    describe.add_argument(
        "--measure",
        action="store_true",
        help="measure the receptive field too, by gradients (takes as long as training steps)",
    )
    add_json(describe)


def _describe(arguments: argparse.Namespace) -> None:
    import torch

    from deconvnet.describe import describe
    from deconvnet.models import MODELS, build_model

    if arguments.network in MODELS:
        with torch.device("cpu" if arguments.measure else "meta"):  # shapes need no memory
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
    description = describe(
        network, size=arguments.size, in_channels=in_channels, measure=arguments.measure
    )
    print_result(arguments.json, description.to_json(), str(description))


FIGURES = (
    "failures",
    "architecture",
    "unpooling",
    "deconvolution",
    "layers",
    "probabilities",
    "proposals",
    "comparison",
    "doubt",
    "sizes",
)


def add_explain(command: Command) -> None:
    """Add `explain`."""
    explain = command("explain", _explain, "draw what each layer made of a picture")
    add = explain.add_argument
    add("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    add("image", metavar="IMAGE", help="the picture")
    add("--out", required=True, metavar="FILE", help="the drawing: .png, .svg or .pdf")
    add(
        "--class",
        dest="class_name",
        metavar="NAME",
        help="the class to look for (default: the one predicted most)",
    )
    add(
        "--channel",
        choices=["contribution", "correlation", "energy"],
        default="contribution",
        help="by what a layer's channel is chosen (default: what adds most to the class)",
    )
    add("--box", type=numbers, metavar="X0,Y0,X1,Y1", help="look at this part alone")
    way = explain.add_mutually_exclusive_group()
    way.add_argument(
        "--trace",
        type=numbers,
        metavar="X,Y",
        help="follow this pixel back through the switches to the picture",
    )
    way.add_argument(
        "--project",
        metavar="LAYER[:CHANNEL]",
        help="take a layer's strongest activations back to the picture",
    )
    add("--forward", action="store_true", help="with --trace: from the picture to the scores")


def _explain(arguments: argparse.Namespace) -> None:
    from deconvnet.figures.style import check_suffix, save
    from deconvnet.inside import class_index, look_inside
    from deconvnet.predict import load

    check_writable(arguments.out)
    check_suffix(arguments.out)
    _check_explain(arguments)
    predictor = load(arguments.checkpoint, engine="plain", device=arguments.device)
    if arguments.class_name is not None:
        class_index(predictor.classes, arguments.class_name)
    box = tuple(arguments.box) if arguments.box else None
    inside = look_inside(predictor, arguments.image, box=box)
    found = _explanation(arguments, inside)
    save(found.figure(), arguments.out)
    print(found)
    print(f"The drawing is {arguments.out}.")


def _check_explain(arguments: argparse.Namespace) -> None:
    """Refuse what no network could answer, before one is loaded."""
    for name, count in (("trace", 2), ("box", 4)):
        given = getattr(arguments, name)
        if given is not None and len(given) != count:
            arguments.parser.error(f"--{name} takes {count} numbers, such as {EXAMPLES[name]}")
    if arguments.forward and arguments.trace is None:
        arguments.parser.error("--forward needs --trace X,Y, the pixel to start from")
    _, colon, channel = (arguments.project or "").partition(":")
    if colon and not channel.isdecimal():
        arguments.parser.error(
            f"--project {arguments.project} has no number behind the colon; "
            "name a channel, such as conv5_3:17, or none"
        )


EXAMPLES = {"trace": "120,80", "box": "0,0,224,224"}


def _explanation(
    arguments: argparse.Namespace, inside: "Inside"
) -> "Explanation | TracedPicture | ProjectedPicture":
    from deconvnet.explain import explain
    from deconvnet.tracing_pictures import explain_projection, explain_trace

    if arguments.trace is not None:
        x, y = inside.seen_at(*arguments.trace)
        return explain_trace(inside, x, y, direction="forward" if arguments.forward else "back")
    chosen: dict[str, Any] = {"class_name": arguments.class_name, "by": arguments.channel}
    if arguments.project is not None:
        layer, _, channel = arguments.project.partition(":")
        return explain_projection(inside, layer, int(channel) if channel else None, **chosen)
    return explain(inside, **chosen)


def add_figure(command: Command) -> None:
    """Draw one of the paper's figures from our own networks and pictures."""
    figure = command(
        "figure",
        _figure,
        "draw a figure of the paper from our own networks and pictures",
        epilog="Without a data set, the pictures are drawn by the program, like those the "
        "network was trained on.",
    )
    add = figure.add_argument
    add("name", metavar="NAME", help=", ".join(FIGURES))
    add(
        "words",
        nargs="*",
        metavar="CHECKPOINT|IMAGE|DATA",
        help="networks, then a picture or a data set, as the figure needs; architecture also "
        "takes the name of a model",
    )
    add("--out", required=True, metavar="FILE", help="a .png, .svg or .pdf file")
    add("--class", dest="class_name", metavar="NAME", help="probabilities, layers: which class")
    add("--split", default="val", help="of the data set (default: val)")
    add("--picture", type=int, default=0, metavar="I", help="which of the data set, from 0")
    add("--pictures", type=int, default=4, metavar="N", help="comparison: rows (default: 4)")
    add(
        "--among",
        type=int,
        metavar="N",
        help="failures, comparison, sizes: of N pictures",
    )
    add("--proposals", type=int, metavar="N", help="failures, proposals, sizes: windows")
    add("--num_classes", type=int, default=21, help="architecture of a model")
    add("--in_channels", type=int, default=3, help="architecture of a model")
    add("--width", type=float, default=1.0, help="architecture of a model")
    add("--size", type=int, default=224, help="architecture: side of the picture in pixels")


def _figure(arguments: argparse.Namespace) -> None:
    from deconvnet.figures import asked, style

    style.check_suffix(arguments.out)
    check_writable(arguments.out)
    asked_for = asked.asked(arguments.name, arguments.words)
    wishes = asked.Wishes(
        **{name: getattr(arguments, name) for name in asked.Wishes.__dataclass_fields__}
    )
    if asked_for.name == "layers":
        from deconvnet.explain import explain
        from deconvnet.inside import look_inside

        (network,) = asked.titled(asked_for.networks, arguments.device).values()
        image, _ = asked.picture_of(asked_for, network, wishes)
        drawn = explain(look_inside(network, image), class_name=arguments.class_name).figure()
    else:
        drawn = asked.draw(asked_for, wishes)
    style.save(drawn, arguments.out)
    print(arguments.out)
