"""Completion of the command line by the shell: completion.

The parser is read into plain values that say what each command takes; the three scripts are
written from these, so that they offer what the program accepts.
"""

import argparse
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from deconvnet.cli.inside import FIGURES
from deconvnet.cli.options import Command

NETWORKS = (
    *("deconvnet", "fcn32s", "fcn16s", "fcn8s", "fcn8s-at-once"),
    *("segnet", "segnet-basic", "segnet-bayesian", "unet", "unet-valid"),
)
FORMATS = (
    *("folder", "voc", "sbd", "coco", "labelme", "label-studio", "cityscapes"),
    *("camvid", "camvid32", "stack", "isbi", "scenes"),
)
DATA_SETS = ("voc2012", "sbd", "camvid", "camvid32", "isbi2012", "vgg16", "vgg16-bn")
MEASURED = (
    *("machine", "inference", "training", "loading", "pipeline", "startup"),
    *("proposals", "crf", "all"),
)
UNPOOLINGS = ("switches", "nails", "nearest", "average", "bilinear", "subpixel", "transposed")

WORDS = MappingProxyType(
    {
        "figure name": FIGURES,
        "download name": DATA_SETS,
        "bench what": MEASURED,
        "export to": ("onnx", "openvino", "torch"),
        "model": NETWORKS,
        "unpooling": UNPOOLINGS,
        "format": FORMATS,
        "data": ("scenes",),
        "split": ("train", "val", "test"),
        "device": ("auto", "cpu", "cuda", "mps"),
    }
)
"""Words that argparse does not know as choices, by command and argument, or by argument.

Written down again here since the modules that hold them import torch, for which no prompt of a
shell should wait; the tests compare them.
"""

Files = Literal["", "files", "folders"]

KINDS: MappingProxyType[str, Files] = MappingProxyType(
    {
        **dict.fromkeys(("DIR", "RUN", "FOLDER", "DATA", "CHECKPOINT"), "folders"),
        **dict.fromkeys(("FILE", "FILE.tgz", "IMAGE", "VIDEO"), "files"),
        **dict.fromkeys(("RECIPE", "RECIPE.yaml"), "files"),
    }
)
"""What a metavar stands for on the disk."""


class Value(NamedTuple):
    """What may stand in one place of a command line."""

    name: str
    words: tuple[str, ...] = ()
    files: Files = ""


class Option(NamedTuple):
    """An option as it is offered; one without a value is a flag."""

    spellings: tuple[str, ...]
    purpose: str
    value: Value | None = None


class Verb(NamedTuple):
    """A command: its options, and what it takes beside them."""

    name: str
    purpose: str
    options: tuple[Option, ...]
    places: Value


def add_completion(command: Command) -> None:
    completion = command(
        "completion",
        _completion,
        "print a script that lets the shell complete commands, options and names",
        epilog="To have it in every shell, add a line to its start-up file:\n\n"
        '  ~/.bashrc                   eval "$(deconvnet completion bash)"\n'
        '  ~/.zshrc, after compinit    eval "$(deconvnet completion zsh)"\n'
        "  ~/.config/fish/config.fish  deconvnet completion fish | source",
    )
    completion.add_argument("shell", choices=list(SCRIPTS), help="the shell to write it for")


def _completion(arguments: argparse.Namespace) -> None:
    from deconvnet.cli import make_parser

    print(SCRIPTS[arguments.shell](verbs_of(make_parser())), end="")


def verbs_of(parser: argparse.ArgumentParser) -> list[Verb]:
    """What every command of a parser takes, in the order of its help."""
    (commands,) = (
        action
        for action in parser._actions  # noqa: SLF001 - argparse has no public way to ask
        if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
    )
    purposes = {
        action.dest: action.help or ""
        for action in commands._choices_actions  # noqa: SLF001
    }
    return [_verb_of(name, purposes[name], sub) for name, sub in commands.choices.items()]


def _verb_of(name: str, purpose: str, parser: argparse.ArgumentParser) -> Verb:
    options: list[Option] = []
    places: list[Value] = []
    for action in parser._actions:  # noqa: SLF001
        value = None if action.nargs == 0 else _value_of(name, action)
        if action.option_strings:
            spellings = tuple(text.replace("_", "-") for text in action.option_strings)
            options.append(Option(spellings, action.help or "", value))
        elif value:
            places.append(value)
    if name == "train":
        known = {spelling for option in options for spelling in option.spellings}
        options += [option for option in _settings() if option.spellings[0] not in known]
    return Verb(name, purpose, tuple(options), _joined(places))


def _value_of(verb: str, action: argparse.Action) -> Value:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    names = set(re.findall(r"[A-Z]+(?:\.\w+)?", metavar))
    words = [*(action.choices or ()), *WORDS.get(f"{verb} {action.dest}", ())]
    words += WORDS.get(action.dest, ())
    words += bundled_names() if "CHECKPOINT" in names else ()
    words += NETWORKS if "MODEL" in names else ()
    words += WORDS["data"] if "DATA" in names else ()
    kinds = {KINDS[name] for name in names if name in KINDS}
    return Value(metavar, tuple(dict.fromkeys(map(str, words))), _widest(kinds))


def _settings() -> Iterable[Option]:
    """The settings of a recipe, which `train` takes as options that argparse does not see."""
    from deconvnet.recipe import setting_docs, setting_types

    docs = setting_docs()
    for name, kind in setting_types().items():
        value = Value(name.upper(), (*WORDS.get(name, ()), *_choices(kind)))
        if name == "start_from":
            value = Value("CHECKPOINT", tuple(bundled_names()), "files")
        yield Option((f"--{name.replace('_', '-')}",), docs[name], value)


def _choices(kind: Any) -> tuple[str, ...]:
    """The words that a setting of this type can be, if they can be told."""
    if kind is bool:
        return ("true", "false")
    if typing.get_origin(kind) is Literal:
        return typing.get_args(kind)
    return tuple(word for part in typing.get_args(kind) for word in _choices(part))


def _joined(places: list[Value]) -> Value:
    words = dict.fromkeys(word for place in places for word in place.words)
    names = " ".join(place.name for place in places)
    return Value(names, tuple(words), _widest({place.files for place in places}))


def _widest(kinds: set[Files]) -> Files:
    """Files include folders, which are on the way to them."""
    return "files" if "files" in kinds else "folders" if "folders" in kinds else ""


def bundled_names() -> list[str]:
    """The networks that come with the package, found without loading any library."""
    weights = Path(__file__).parents[1] / "weights"
    return sorted(path.parent.name for path in weights.glob("*/config.json"))


def _plain(text: str) -> str:
    """A help text as one line that needs no quoting in any shell but its apostrophes."""
    return " ".join(text.replace("`", "").replace("%%", "%").split())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


BASH = """\
# deconvnet for bash; add to ~/.bashrc: eval "$(deconvnet completion bash)"
_deconvnet() {
  local IFS=$' \\t\\n' words='' files=''
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}
  if [[ $cur == '=' ]]; then cur=''  # --option=value arrives as three words
  elif [[ $prev == '=' ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}
  fi
  if ((COMP_CWORD == 1)); then words='@verbs --help --version'
  elif [[ $cur == -* ]]; then
    cur=${cur//_/-}
    case $verb in
@options
    esac
  else
    case "$verb ${prev//_/-}" in
@values
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  if [[ $files ]]; then
    compopt -o filenames &>/dev/null  # a folder ends with /; bash 3 has no compopt
    IFS=$'\\n'
    COMPREPLY+=($(compgen "$files" -- "$cur"))
  fi
}
complete -F _deconvnet deconvnet
"""


def bash_script(verbs: list[Verb]) -> str:
    """The script for bash, of version 3 (as macOS has it) or later."""
    options, values = [], []
    for verb in verbs:
        spellings = [word for option in verb.options for word in option.spellings]
        options.append(f"      {verb.name}) words='{' '.join(spellings)}' ;;")
        for option in verb.options:
            if option.value:
                cases = "|".join(f"'{verb.name} {word}'" for word in option.spellings)
                values.append(f"      {cases}) {_bash_value(option.value)} ;;")
        values.append(f"      '{verb.name} '*) {_bash_value(verb.places)} ;;")
    return (
        BASH.replace("@verbs", " ".join(verb.name for verb in verbs))
        .replace("@options", "\n".join(options))
        .replace("@values", "\n".join(values))
    )


def _bash_value(value: Value) -> str:
    files = {"files": " files=-f", "folders": " files=-d", "": ""}[value.files]
    return f"words='{' '.join(value.words)}'{files}"


ZSH = """\
#compdef deconvnet
# deconvnet for zsh; add to ~/.zshrc, after compinit: eval "$(deconvnet completion zsh)"
_deconvnet_offer() {
  local kind=$1
  shift
  (( $# )) && compadd -- "$@"
  case $kind in
    files) _files ;;
    folders) _files -/ ;;
  esac
}
_deconvnet() {
  local -a verbs
  verbs=(
@verbs
  )
  if (( CURRENT == 2 )); then
    _describe -t commands command verbs
    return
  fi
  local verb=$words[2]
  shift words
  (( CURRENT-- ))
  case $verb in
@cases
  esac
}
if [[ $funcstack[1] == _deconvnet ]]; then
  _deconvnet "$@"
else
  compdef _deconvnet deconvnet
fi
"""


def zsh_script(verbs: list[Verb]) -> str:
    """The script for zsh, to be evaluated or put into a folder of $fpath."""
    cases = []
    for verb in verbs:
        specs = [
            _quoted(
                f"{word}{'=' if option.value and word[:2] == '--' else ''}"
                f"[{_zsh(option.purpose)}]" + (_zsh_value(option.value) if option.value else "")
            )
            for option in verb.options
            for word in option.spellings
        ]
        if verb.places.name:
            specs.append(_quoted("*" + _zsh_value(verb.places)))
        cases.append(f"    {verb.name})\n      _arguments \\\n        ")
        cases[-1] += " \\\n        ".join(specs) + "\n      ;;"
    named = [f"    {_quoted(f'{verb.name}:{_plain(verb.purpose)}')}" for verb in verbs]
    return ZSH.replace("@verbs", "\n".join(named)).replace("@cases", "\n".join(cases))


def _zsh(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", _plain(text))


def _zsh_value(value: Value) -> str:
    words = " ".join(value.words)
    return f":{_zsh(value.name)}: _deconvnet_offer {value.files or 'none'} {words}".rstrip()


FISH = """\
# deconvnet for fish; add to ~/.config/fish/config.fish: deconvnet completion fish | source
function __deconvnet_verb
  set -l words (commandline -opc)
  test "$words[2]" = "$argv[1]"
end
complete -c deconvnet -f
complete -c deconvnet -n "__deconvnet_verb ''" -s h -l help -d 'show the commands'
complete -c deconvnet -n "__deconvnet_verb ''" -l version -d 'show the version'
"""


def fish_script(verbs: list[Verb]) -> str:
    """The script for fish."""
    lines = []
    for verb in verbs:
        purpose = _fish_quoted(_plain(verb.purpose))
        start = "complete -c deconvnet -n"
        lines.append(f"{start} \"__deconvnet_verb ''\" -a {verb.name} -d {purpose}")
        start += f" '__deconvnet_verb {verb.name}'"
        for option in verb.options:
            spelled = " ".join(
                f"-l {word[2:]}" if word[:2] == "--" else f"-s {word[1:]}"
                for word in option.spellings
            )
            value = f" -r{_fish_value(option.value)}" if option.value else ""
            lines.append(f"{start} {spelled}{value} -d {_fish_quoted(_plain(option.purpose))}")
        if verb.places.words or verb.places.files:
            lines.append(f"{start}{_fish_value(verb.places)}")
    return FISH + "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_value(value: Value) -> str:
    offered = [*value.words]
    offered += ["(__fish_complete_directories)"] if value.files == "folders" else []
    words = f" -a {_fish_quoted(' '.join(offered))}" if offered else ""
    return (" -F" if value.files == "files" else " -f") + words


SCRIPTS = MappingProxyType({"bash": bash_script, "zsh": zsh_script, "fish": fish_script})
"""The writer of each shell's script. To add a shell, add a line."""
