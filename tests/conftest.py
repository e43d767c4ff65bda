"""What every test may use."""

import gc
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DRAWN = {}
"""Pictures of `scenes` by all that decides them."""


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
    """Draw no picture of `scenes` twice: hundreds of short trainings see the same few.

    Except for modules that test the drawing, which say DRAWS_ANEW = True.
    """
    if getattr(request.module, "DRAWS_ANEW", False):
        yield
        return
    from deconvnet.data import scenes

    draw = scenes.draw_scene

    def recalled(rng, shape, **settings):
        key = repr((rng.bit_generator.state, shape, settings))
        if key not in DRAWN:
            DRAWN[key] = draw(rng, shape, **settings)
        return tuple(plane.copy() for plane in DRAWN[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "draw_scene", recalled)
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
