"""What every test may use."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # pytest runs a process on each core

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data (README, "Real data for the tests"); skips where it is absent."""
    folder = Path(os.environ.get("DECONVNET_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"no real data at {folder}: set DECONVNET_DATA to its folder to run this test"
        )
    return folder
