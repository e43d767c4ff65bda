"""The command line. Nothing heavy is imported before a command is known to need it.

Each module here holds a group of commands: for a command `verb`, `add_verb` says what it takes
and `_verb` runs it.
"""

import argparse
import errno
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from deconvnet.cli.completion import add_completion
from deconvnet.cli.data import add_check_data, add_convert, add_download
from deconvnet.cli.inside import add_describe, add_explain, add_figure
from deconvnet.cli.measuring import add_bench, add_demo
from deconvnet.cli.prediction import add_export, add_predict, add_serve
from deconvnet.cli.training import add_ablate, add_compare, add_evaluate, add_train
from deconvnet.errors import UserError

COMMANDS = (
    add_train,
    add_evaluate,
    add_predict,
    add_serve,
    add_export,
    add_compare,
    add_ablate,
    add_describe,
    add_explain,
    add_figure,
    add_check_data,
    add_convert,
    add_download,
    add_bench,
    add_demo,
    add_completion,
)
"""Every command, in the order of the help. To add one, add a line."""


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
        arguments, rest = make_parser().parse_known_args(words)
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
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            trouble = f"{str(error.filename)[:60]}... is longer than any name of a file"
            remedy = "give a shorter one"
        elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}:
            trouble = f"{error.filename} cannot be used: {error.strerror}"
            remedy = "give a place that you may read and write"
        else:
            raise
        print(f"deconvnet: {trouble}; {remedy}.", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    run: Callable[[argparse.Namespace], int | None] = arguments.run
    warnings.filterwarnings("ignore", module="PIL")  # our own error follows, or none is needed
    if getattr(arguments, "threads", None) is not None:
        import torch

        if arguments.threads < 1:
            arguments.parser.error(f"--threads is {arguments.threads}; it must be at least 1")
        torch.set_num_threads(arguments.threads)
    seed = getattr(arguments, "seed", None)
    if seed is not None:
        from deconvnet.recipe import LARGEST_SEED

        if not 0 <= seed <= LARGEST_SEED:
            arguments.parser.error(f"--seed is {seed}; it must lie in 0 to {LARGEST_SEED}")
    return run(arguments) or 0


def make_parser() -> _Parser:
    """The parser of the whole command line, with every command in it."""
    parser = _Parser(
        prog="deconvnet",
        description="Semantic segmentation with learned deconvolution: train, evaluate, "
        "predict, compare, look inside, ship.",
        epilog="Each command explains itself: deconvnet COMMAND --help. "
        "In the names of options, - and _ are alike.",
    )
    from deconvnet import __version__

    parser.add_argument("--version", action="version", version=f"deconvnet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    common = _Parser(add_help=False)
    common.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or mps (default: auto)"
    )
    common.add_argument("--threads", type=int, metavar="N", help="CPU threads to use")
    common.add_argument("--seed", type=int, default=None, help="seed of all that is random")
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

    for add in COMMANDS:
        add(command)
    return parser


TRAIN_FLAGS = {"--resume", "--dry_run", "--find_learning_rate", "--quiet", "--help", "-h"}
TRAIN_OPTIONS = {
    *("--data", "--out", "--devices", "--device", "--threads", "--seed", "--fit_memory"),
}
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


def _with_underscores(word: str) -> str:
    """An option with _ for -, so that both spellings are one."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value
