"""Options that several commands share, and how results are printed."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deconvnet.errors import OutputError

if TYPE_CHECKING:
    from deconvnet.predict import Predictor

CHECKPOINT = "a bundled name, the folder of a checkpoint, or a Hugging Face Hub id"

Command = Callable[..., argparse.ArgumentParser]
"""Adds a command: name, function to run, purpose."""


def add_prediction_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes that segments pictures."""
    add = parser.add_argument
    add("--proposals", type=int, default=0, metavar="N", help="segment N object proposals each")
    add("--aggregate", choices=["max", "mean"], default="max", help="how proposals are joined")
    add("--ensemble", metavar="CHECKPOINT", help="join with a second network")
    add("--combine", choices=["mean", "product"], default=None,
        help="how the two networks are joined (default: mean)")  # fmt: skip
    add("--crf", action="store_true", help="refine edges with the dense CRF")
    add("--crf_settings", metavar="TEXT", help="its settings, as `ablate --search crf` finds")
    add(
        "--protocol",
        choices=["paper", "release"],
        default="paper",
        help="whose way, where paper and release differ",
    )
    add("--tile", type=int, metavar="N", help="side of the tiles for large pictures")
    add("--tta", action="store_true", help="average over the picture and its mirror image")
    add_engine(parser)
    add("--calibrate", metavar="DATA", help="for int8: data set whose training pictures it is "
        "calibrated on (default: that of the network's recipe)")  # fmt: skip


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add what computes a network, and in which numbers."""
    parser.add_argument(
        "--engine",
        choices=["torch", "native", "openvino"],
        default="torch",
        help="what computes the network; native: our kernels for the CPU (default: torch)",
    )
    parser.add_argument(
        "--precision",
        choices=["fp32", "int8"],
        default="fp32",
        help="numbers to compute in (default: fp32)",
    )


def prediction_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of a Predictor's call that the command line asks for."""
    names = ("proposals", "aggregate", "combine", "crf", "protocol", "tile", "tta")
    options = {name: getattr(arguments, name) for name in names}
    for name in ("proposals", "tile"):
        if options[name] is not None and options[name] < 0:
            arguments.parser.error(f"--{name} is {options[name]}; it must not be negative")
    if arguments.crf_settings is not None:
        from deconvnet.crf import CrfSettings

        options["crf"] = CrfSettings.from_text(arguments.crf_settings)
    if arguments.ensemble:
        options["ensemble"] = load_predictor(arguments, arguments.ensemble)
    elif arguments.combine:
        arguments.parser.error("--combine needs --ensemble, the network to combine with")
    return options


def load_predictor(arguments: argparse.Namespace, checkpoint: str | None = None) -> "Predictor":
    """The network the command line names, or another one, run as it asks."""
    from deconvnet.predict import load

    if arguments.calibrate and arguments.precision != "int8":
        arguments.parser.error("--calibrate is for --precision int8")
    return load(
        checkpoint or arguments.checkpoint,
        engine=arguments.engine,
        precision=arguments.precision,
        calibration=arguments.calibrate,
        device=arguments.device,
    )


def add_layout(parser: argparse.ArgumentParser) -> None:
    """Add what tells how a data set is laid out."""
    parser.add_argument("--format", help="layout of the folder, where it is not recognised")
    parser.add_argument(
        "--mask_values",
        type=numbers,
        metavar="A,B",
        help="for plain folders: the number in the masks for each class, such as 0,255",
    )


def numbers(text: str) -> list[int]:
    """Whole numbers from text such as 0,255."""
    return [int(part) for part in text.split(",")]


def words(text: str) -> list[str]:
    """Words from text such as max,mean."""
    return text.split(",")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json [FILE]."""
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write JSON to FILE, else to stdout",
    )


def print_result(json_place: str | None, values: Any, text: str) -> None:
    """Print the table, and write the JSON; alone on stdout when no file is named."""
    import json

    if json_place == "-":
        print(json.dumps(values, indent=2))
        return
    print(text)
    if json_place:
        from deconvnet.files import write_text

        write_text(json_place, json.dumps(values, indent=2) + "\n")


def check_writable(*places: str | None) -> None:
    """Refuse an output file that cannot be written before the work, not after it."""
    from deconvnet.files import refuse_unwritable_folder

    for place in places:
        if place is None or place == "-":
            continue
        if Path(place).is_dir():
            raise OutputError(f"{place} is a folder; name a file to write.")
        refuse_unwritable_folder(Path(place).parent, Path(place).name)
