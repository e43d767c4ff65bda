"""What every test may use."""

import gc
import os
from pathlib import Path

import jaxtyping
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DRAWN = {}
"""Pictures of `scenes` by all that decides them, and the first curve."""


def pytest_collectstart() -> None:
    """Import the large libraries before the first module of ours does.

    While jaxtyping's import hook runs a module, Python takes the bytecode of all that is
    imported there for stale, and compiles torch, sympy and the rest from their sources: 9 s.
    """
    import lightning_fabric  # noqa: F401
    import scipy.sparse  # noqa: F401


def pytest_collection_finish() -> None:
    """Ready a process for its tests; the one that hands them out never gets here.

    That one starts the others sooner without torch.
    """
    import torch

    torch.set_num_threads(1)  # pytest runs a process on each core
    gc.freeze()  # every module is loaded: a million objects that are no garbage


@pytest.fixture(autouse=True)
def _seeded():
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="module", autouse=True)
def _drawn_once(request):
    """Draw no picture of `scenes` twice, and no curve but the first of a process.

    Hundreds of short trainings see the same few pictures, and leave a curve nobody looks at.
    Modules that test the drawing say DRAWS_ANEW = True.
    """
    if getattr(request.module, "DRAWS_ANEW", False):
        yield
        return
    from deconvnet import draw
    from deconvnet.data import scenes

    draw_scene, draw_curve = scenes.draw_scene, draw.curve_picture

    def recalled(rng, shape, **settings):
        key = repr((rng.bit_generator.state, shape, settings))
        if key not in DRAWN:
            DRAWN[key] = draw_scene(rng, shape, **settings)
        return tuple(plane.copy() for plane in DRAWN[key])

    def curve(log, path):
        if "curve" not in DRAWN:
            draw_curve(log, path)
            DRAWN["curve"] = Path(path).read_bytes()
        Path(path).write_bytes(DRAWN["curve"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "draw_scene", recalled)
        patch.setattr(draw, "curve_picture", curve)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data (README, "Real data for the tests"); skips where it is absent."""
    folder = Path(os.environ.get("DECONVNET_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"no real data at {folder}: set DECONVNET_DATA to its folder to run this test"
        )
    return folder


@pytest.fixture
def _unchecked_shapes():
    """As for a user: while a network is traced sizes are tensors, and wrong types come in."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
