"""The shells complete what the program accepts."""

import shutil
import subprocess
import sys

import pytest

from deconvnet import cli
from deconvnet.cli import completion
from deconvnet.recipe import Recipe

SHELLS = ("bash", "zsh", "fish")
COMPLETE = """
set -u
source "$1"
line=("${@:2}")
COMP_WORDS=("${line[@]}")
COMP_CWORD=$((${#line[@]} - 1))
_deconvnet
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.fixture
def offered(tmp_path, monkeypatch, capsys):
    """What bash offers for the last word of a command line, in a folder of three things."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    for name in ("my data", "runs"):
        (tmp_path / "here" / name).mkdir(parents=True)
    (tmp_path / "here" / "street.jpg").touch()
    bundled = tmp_path / "package" / "weights" / "unet-tiny" / "config.json"
    bundled.parent.mkdir(parents=True)
    bundled.touch()
    monkeypatch.setattr(completion, "__file__", str(tmp_path / "package" / "cli" / "x.py"))
    (tmp_path / "script").write_text(script("bash", capsys), encoding="utf-8")

    def complete(*words):
        shown = subprocess.run(
            ["bash", "-c", COMPLETE, "bash", str(tmp_path / "script"), "deconvnet", *words],
            cwd=tmp_path / "here",
            capture_output=True,
            text=True,
            check=False,
        )
        assert shown.returncode == 0, shown.stderr
        assert shown.stderr == ""
        return shown.stdout.split("\n")[:-1]

    return complete


def test_bash_completes_commands(offered):
    assert offered("ev") == ["evaluate"]
    assert offered("ex") == ["export", "explain"]
    assert "--version" in offered("")


def test_bash_completes_options_of_the_command_alone(offered):
    assert offered("predict", "--tt") == ["--tta"]
    assert offered("describe", "--tt") == [""]
    assert offered("train", "--dry_r") == ["--dry-run"]  # either spelling is understood
    assert offered("train", "--learning-") == ["--learning-rate"]  # a setting of the recipe


def test_bash_completes_what_an_option_takes(offered):
    assert offered("predict", "x", "--engine", "") == ["torch", "native", "openvino"]
    assert offered("predict", "x", "--engine", "=", "nat") == ["native"]
    assert offered("predict", "x", "--engine", "=") == ["torch", "native", "openvino"]
    assert offered("train", "--batch_norm", "") == ["true", "false"]
    assert offered("train", "--steps", "") == [""]
    assert offered("describe", "--size", "") == [""]


def test_bash_completes_networks_data_and_files(offered):
    assert offered("evaluate", "un") == ["unet-tiny"]
    assert offered("evaluate", "") == ["unet-tiny", "scenes", "my data", "runs"]
    assert offered("predict", "unet-tiny", "s") == ["street.jpg"]
    assert offered("describe", "segnet-ba") == ["segnet-basic", "segnet-bayesian"]
    assert offered("train", "--start-from", "un") == ["unet-tiny"]
    assert offered("train", "--data", "") == ["scenes", "my data", "runs"]
    assert offered("predict", "unet-tiny", "--crf", "st") == ["street.jpg"]  # after a flag


@pytest.mark.parametrize("shell", SHELLS)
def test_every_script_offers_every_command_option_and_setting(shell, capsys):
    shown = script(shell, capsys)
    dashes = "-l " if shell == "fish" else "--"
    for verb in completion.verbs_of(cli.make_parser()):
        assert verb.name in shown
        for option in verb.options:
            assert option.spellings[-1].replace("--", dashes) in shown
    for name in Recipe().to_dict():
        assert dashes + name.replace("_", "-") in shown


@pytest.mark.parametrize(
    ("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")]
)
def test_every_script_is_sound_to_its_shell(shell, check, tmp_path, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    (tmp_path / "script").write_text(script(shell, capsys), encoding="utf-8")
    subprocess.run([shell, check, str(tmp_path / "script")], check=True)


def test_the_words_written_down_again_are_the_true_ones():
    from deconvnet.bench import BENCHES
    from deconvnet.data import READERS
    from deconvnet.download import PUBLISHED
    from deconvnet.export import FORMATS
    from deconvnet.layers import UNPOOLING_KINDS
    from deconvnet.models import MODELS

    words = completion.WORDS
    assert words["model"] == tuple(MODELS)
    assert set(words["format"]) == {*READERS, "scenes"}
    assert words["download name"] == tuple(PUBLISHED)
    assert set(words["bench what"]) == {*BENCHES, "all"}
    assert set(words["export to"]) == set(FORMATS)
    assert words["unpooling"] == UNPOOLING_KINDS


def test_printing_a_script_waits_for_no_library():
    watch = "import sys; import deconvnet.cli as c; c.main(['completion', 'zsh'])\n"
    watch += "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", watch], capture_output=True, text=True, check=True
    )
    assert shown.stdout.endswith("\n[]\n")
