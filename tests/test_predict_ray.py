"""Ray is an extra that set-up does not install; where it is, a local cluster is started."""

import importlib.util
import sys

import PIL.Image
import pytest
import torch

from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.cli import main
from deconvnet.data.scenes import SCENES, Scenes
from deconvnet.errors import DataError, MissingExtraError, RecipeError
from deconvnet.predict import load
from deconvnet.predict_files import Outputs, predict_files
from deconvnet.predict_ray import Workers, predict_by_ray

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the extra 'ray' is not installed"
)
PICTURES = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(1)
    place = tmp_path_factory.mktemp("ray")
    config = Config("unet", SCENES, {"width": 1 / 32, "batch_norm": True})
    save_checkpoint(place / "net", build_network(config), config)
    for index, sample in enumerate(Scenes("val", count=PICTURES, size=(33, 40))):
        path = place / "in" / f"set{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(sample.image).save(path)
    return place


@pytest.fixture(scope="module")
def whole(folder):
    """What one process gives."""
    out = folder / "whole"
    predict_files(
        lambda: load(folder / "net"), [folder / "in"], out, uncertainty="entropy", quiet=True
    )
    return contents(out)


def contents(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*.*"))
        if path.suffix != ".jsonl"
    }


def by_ray(folder, inputs, out, **options):
    shown = []
    predict_by_ray(
        lambda: load(folder / "net"),
        inputs,
        out,
        workers=Workers(2, 1),
        report=shown.append,
        uncertainty="entropy",
        **options,
    )
    return shown


@needs_ray
@pytest.mark.slow
def test_two_workers_give_the_bytes_of_one_process_and_resume(folder, whole, tmp_path):
    assert len(by_ray(folder, [folder / "in"], tmp_path)) == PICTURES
    assert contents(tmp_path) == whole
    (tmp_path / "set1" / "3.mask.png").unlink()
    journal = tmp_path / "finished.jsonl"
    journal.write_text("\n".join(journal.read_text().splitlines()[:-1]) + "\n")
    assert 1 <= len(by_ray(folder, [folder / "in"], tmp_path, resume=True)) <= 2
    assert contents(tmp_path) == whole


@needs_ray
@pytest.mark.slow
def test_pictures_in_parquet_give_the_same_bytes_and_resume(folder, whole, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    files = sorted((folder / "in").rglob("*.png"))
    names = [str(path.relative_to(folder / "in").with_suffix("")) for path in files]
    table = pa.table({"name": names, "image": [path.read_bytes() for path in files]})
    parquet.write_table(table, tmp_path / "pictures.parquet")
    out = tmp_path / "out"
    assert len(by_ray(folder, [tmp_path / "pictures.parquet"], out)) == PICTURES
    made = contents(out)
    assert {name for name in whole if made.get(name) != whole[name]} <= {
        "shares.csv",  # whose order is that of the names
        "doubt.csv",
    }
    assert sorted(made["shares.csv"].splitlines()) == sorted(whole["shares.csv"].splitlines())
    assert by_ray(folder, [tmp_path / "pictures.parquet"], out, resume=True) == []

    broken = pa.table({"name": ["../../etc/x"], "image": [b"x"]})
    parquet.write_table(broken, tmp_path / "broken.parquet")
    with pytest.raises(DataError, match="names no file below --out"):
        by_ray(folder, [tmp_path / "broken.parquet"], tmp_path / "other")


@needs_ray
def test_what_ray_cannot_do_is_refused_in_words(folder, tmp_path):
    mixed = [tmp_path / "a.parquet", folder / "in" / "set0" / "0.png"]
    with pytest.raises(DataError, match="give one kind"):
        by_ray(folder, mixed, tmp_path / "out")
    annotated = Outputs(annotations="coco")
    with pytest.raises(RecipeError, match="no file that annotations could name"):
        by_ray(folder, [tmp_path / "a.parquet"], tmp_path / "out", outputs=annotated)


def test_without_ray_the_extra_is_named_in_one_sentence(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="needs the extra 'ray'"):
        by_ray(folder, [folder / "in"], tmp_path / "out")
    words = [str(folder / "net"), str(folder / "in"), "--out", str(tmp_path / "out"), "--ray"]
    assert main(["predict", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
