"""What the documents show works: Python runs, command lines parse, links lead somewhere."""

import functools
import re
import shlex
import shutil
from pathlib import Path

import PIL.Image
import pytest
import yaml

from deconvnet import cli
from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.cli import training
from deconvnet.data.scenes import SCENES, Scenes
from deconvnet.errors import UserError
from deconvnet.recipe import Recipe
from programs import load_program

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PARSER = functools.cache(cli.make_parser)
LANGUAGES = {"python", "pycon", "console", "sh", "yaml", "text", "bibtex", "json"}

documents = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)


def blocks(path, *languages):
    """The fenced blocks of a document in these languages."""
    found = re.findall(
        r"^```(\w*)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return [text for language, text in found if language in languages]


def command_lines(path):
    """The commands of a document's console and sh blocks, as lists of words."""
    lines = []
    for text in blocks(path, "console"):
        joined = text.replace("\\\n", " ")
        lines += [line[2:] for line in joined.splitlines() if line.startswith("$ ")]
    for text in blocks(path, "sh"):
        lines += text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [[w for w in line if not re.match(r"[A-Z_]+=", w)] for line in words if line]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the pictures and networks that the documents speak of."""
    place = tmp_path_factory.mktemp("docs")
    drawn = Scenes("val", count=3, size=64)
    (place / "my-pictures" / "classes.txt").parent.mkdir()
    (place / "my-pictures" / "classes.txt").write_text("\n".join(SCENES.names))
    for folder in ("photos", "new-pictures", "my-pictures/images", "my-pictures/masks"):
        (place / folder).mkdir()
    for number, sample in enumerate(drawn):
        image = PIL.Image.fromarray(sample.image)
        for folder in ("photos", "new-pictures", "my-pictures/images"):
            image.save(place / folder / f"{number}.jpg")
        mask = PIL.Image.fromarray(sample.label_map)
        mask.save(place / "my-pictures" / "masks" / f"{number}.png")
    PIL.Image.fromarray(drawn[0].image).save(place / "street.jpg")
    for folder in ("demo/runs/deconvnet/best", "runs/mine/best"):
        options = {"width": 1 / 64, "fc_channels": 16}
        config = Config("deconvnet", SCENES, options, recipe={"crop_size": 193})
        save_checkpoint(place / folder, build_network(config), config)
    return place


@documents
def test_every_block_of_python_runs(path, prepared, tmp_path, monkeypatch):
    code = blocks(path, "python")
    if not code or path.name == "README.ko.md":  # whose code is that of README.md
        return
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    names = {"__name__": "__main__"}
    for number, block in enumerate(code, start=1):
        exec(compile(block, f"{path.name}, block {number}", "exec"), names)  # noqa: S102 - ours


@documents
def test_every_command_line_is_accepted(path, monkeypatch, capsys):
    if path.name == "README.ko.md":  # whose commands are those of README.md
        return
    monkeypatch.setattr(cli, "make_parser", PARSER)
    for words in command_lines(path):
        if words[0] == "deconvnet":
            problem = refused(words[1:], monkeypatch)
            assert problem is None, f"{' '.join(words)}: {problem}{capsys.readouterr().err}"
        elif words[0] == "make":
            rules = (ROOT / "Makefile").read_text(encoding="utf-8")
            for target in words[1:]:
                assert re.search(rf"^{target}:", rules, re.MULTILINE), target
        elif words[0] == "python":
            assert words[1].startswith("-") or (ROOT / words[1]).is_file(), words


def refused(words, monkeypatch):
    """What is wrong with a command line, which is read as the program does, but not obeyed."""
    seen = []
    monkeypatch.setattr(cli, "_run", lambda arguments: seen.append(arguments) or 0)
    try:
        cli.main(words)
        for arguments in seen:
            if arguments.command == "train":
                recipe = arguments.recipe or ""
                known = Recipe.from_file(ROOT / recipe) if "recipes/" in recipe else Recipe()
                known.with_settings(training._settings(arguments.settings))
    except SystemExit as end:
        return None if end.code == 0 else "not understood; "
    except UserError as error:
        return str(error)
    return None if seen else "not understood; "


@documents
def test_every_yaml_block_is_a_recipe(path):
    for text in blocks(path, "yaml"):
        Recipe.from_mapping(yaml.safe_load(text))


@documents
def test_every_block_names_its_language(path):
    fences = re.findall(r"^\s*```(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(fences[::2]) <= LANGUAGES
    assert set(fences[1::2]) <= {""}
    assert len(fences) % 2 == 0


@documents
def test_every_link_to_a_file_leads_to_one(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        place = target.partition("#")[0]
        if place and "://" not in target and not place.endswith(".png"):  # drawn for a release
            assert (path.parent / place).exists(), target


def test_the_korean_readme_shows_the_same_code_commands_and_figures():
    english, korean = ROOT / "README.md", ROOT / "README.ko.md"
    for language in LANGUAGES - {"text"}:
        assert blocks(korean, language) == blocks(english, language)
    for pattern in (r"^#+ ", r"<!-- [\w: -]+ -->", r"\d[\d,]{3,}", r"^\|", r"^- "):
        counts = [
            len(re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE))
            for page in (english, korean)
        ]
        assert counts[0] == counts[1], pattern


def test_the_table_of_networks_gives_their_true_sizes():
    import torch

    from deconvnet import MODELS, build_model

    shown = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in MODELS if f"`{name}`" not in shown] == []
    for name in ("deconvnet", "fcn32s", "fcn8s", "segnet", "segnet-basic", "unet"):
        num_classes, in_channels = {"segnet": (11, 3), "unet": (2, 1)}.get(name[:6], (21, 3))
        with torch.device("meta"):
            network = build_model(name, num_classes, in_channels)
        assert f"{sum(p.numel() for p in network.parameters()):,}" in shown


def test_the_site_lists_every_page():
    pages = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = set(re.findall(r"[\w/.-]+\.md", str(pages)))
    docs = ROOT / "docs"
    assert listed == {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")}


def test_the_reference_says_what_the_docstrings_say():
    script = load_program("draw_reference")
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), (
        "a docstring changed; run: python scripts/draw_reference.py --write"
    )
