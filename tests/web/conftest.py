import dataclasses
import io

import numpy as np
import PIL.Image
import pytest
import torch

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from starlette.testclient import TestClient

from deconvnet.checkpoint import Config, build_network, save_checkpoint
from deconvnet.data.scenes import SCENES
from deconvnet.web.app import create_app
from deconvnet.web.limits import Limits
from deconvnet.web.serve import load_served

SIZE = 48, 40
"""Width and height of the tests' picture."""


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folders of two tiny networks with random weights: DeconvNet and U-Net."""
    place = tmp_path_factory.mktemp("served")
    made = []
    for name, options in {
        "deconvnet": {"width": 1 / 32, "fc_channels": 16},
        "unet": {"width": 1 / 32, "batch_norm": True},
    }.items():
        torch.manual_seed(3)
        config = Config(name, SCENES, options, recipe={"crop_size": 32})
        made.append(str(save_checkpoint(place / name / "best", build_network(config), config)))
    return made


@pytest.fixture(scope="session")
def served(checkpoints):
    return load_served(checkpoints, device="cpu")


@pytest.fixture
def open_client(served):
    """Opens a client of a server with these limits, and closes it after the test."""
    opened = []

    def open_one(limits=None, *, models=served, token=None, hosts=None, **changes):
        app = create_app(
            models,
            limits or dataclasses.replace(Limits(), **changes),
            token=token,
            hosts=hosts,
        )
        client = TestClient(app, raise_server_exceptions=False)
        opened.append(client)
        return client.__enter__()

    yield open_one
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture(scope="session")
def client(served):
    """A client of a server with the usual limits."""
    with TestClient(create_app(served), raise_server_exceptions=False) as client:
        yield client


def pixels(size=SIZE, seed=0):
    """A picture with some structure."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (5, 6, 3), np.uint8)
    return np.array(PIL.Image.fromarray(coarse).resize(size, PIL.Image.Resampling.BILINEAR))


def encoded(image=None, kind="PNG", **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels() if image is None else image).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def picture():
    """The bytes of a PNG."""
    return encoded()


def assert_problem(response, status, *words):
    """That an answer is problem details with this status, and says these words."""
    assert response.status_code == status, response.text[:300]
    assert response.headers["content-type"] == "application/problem+json"
    details = response.json()
    assert set(details) == {"type", "title", "status", "detail", "code"}
    assert details["status"] == status
    assert "Traceback" not in response.text
    assert ".py" not in response.text
    for word in words:
        assert word in details["detail"], details["detail"]
    return details
