import base64
import io
import json
import logging
import struct
import threading
import time
import zlib

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from deconvnet.cli import main
from deconvnet.predict import load
from deconvnet.web.service import Served
from web.conftest import SIZE, assert_problem, encoded, pixels


def send(client, picture, path="/api/segment", *, headers=None, **fields):
    return client.post(path, files={"image": ("p.png", picture)}, data=fields, headers=headers)


def picture_of(text):
    return PIL.Image.open(io.BytesIO(base64.b64decode(text)))


def events_of(text):
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in blocks
    ]


def test_a_segmentation_has_the_fields_of_the_contract(client, picture):
    answer = send(client, picture).json()
    assert set(answer) == {"model", "width", "height", "classes", "mask_png"}
    assert (answer["width"], answer["height"]) == SIZE
    assert [set(known) for known in answer["classes"]] == [
        {"index", "name", "color", "share"}
    ] * 8
    assert answer["classes"][1]["name"] == "ball"
    assert answer["classes"][1]["color"] == "#e6554a"
    assert sum(known["share"] for known in answer["classes"]) == pytest.approx(1)
    assert picture_of(answer["mask_png"]).mode == "P"


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, []),
        ({"crf": "true"}, ["--crf"]),
        ({"proposals": "2", "crf": "true"}, ["--proposals", "2", "--crf"]),
        ({"model": "unet"}, []),
    ],
)
def test_the_mask_is_byte_for_byte_the_file_that_predict_writes(
    client, checkpoints, tmp_path, fields, options
):
    content = encoded(kind="JPEG", quality=90)
    (tmp_path / "p.jpg").write_bytes(content)
    checkpoint = checkpoints[1 if fields.get("model") == "unet" else 0]
    words = ["predict", checkpoint, str(tmp_path / "p.jpg"), "--out", str(tmp_path), "--quiet"]
    assert main([*words, "--device", "cpu", *options]) == 0
    answer = send(client, content, **fields).json()
    assert base64.b64decode(answer["mask_png"]) == (tmp_path / "p.mask.png").read_bytes()


def test_confidence_is_the_probability_of_the_class_in_the_mask(client, picture, checkpoints):
    answer = send(client, picture, confidence="true").json()
    given = np.array(picture_of(answer["confidence_png"])) / 255
    probabilities = load(checkpoints[0], device="cpu")(pixels()).probabilities
    assert probabilities is not None
    np.testing.assert_allclose(given, probabilities.max(0), atol=0.003)


def test_models_are_named_with_their_classes_and_the_limits(client):
    answer = client.get("/api/models").json()
    assert [model["name"] for model in answer["models"]] == ["deconvnet", "unet"]
    assert answer["models"][0]["classes"][2] == {
        "index": 2,
        "name": "cookie",
        "color": "#a66a3c",
    }
    assert answer["models"][0]["background"] == 0
    assert answer["limits"]["proposals"] == 200


def test_the_parameters_counted_are_those_of_the_network_as_trained(client, checkpoints):
    plain = load(checkpoints[0], engine="plain", device="cpu").network
    expected = sum(weight.numel() for weight in plain.parameters())
    assert client.get("/api/models").json()["models"][0]["parameters"] == expected


def test_the_map_grows_window_by_window_to_the_whole_answer(client, picture):
    response = send(client, picture, "/api/proposals", proposals="3")
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    names = [name for name, _ in events]
    total = events[0][1]["total"]
    assert names == ["begin", *["growth"] * total, "result"]
    assert [values["done"] for name, values in events if name == "growth"] == [
        *range(1, total + 1)
    ]
    assert all(len(values["boxes"]) == 1 for name, values in events if name == "growth")
    whole = send(client, picture, proposals="3").json()
    last = np.array(picture_of(events[-1][1]["mask_png"]))
    assert (last == np.array(picture_of(whole["mask_png"]))).mean() > 0.999


def test_two_networks_are_compared(client, picture):
    answer = send(client, picture, "/api/compare", models="deconvnet,unet").json()
    masks = [np.array(picture_of(result["mask_png"])) for result in answer["results"]]
    assert [result["model"] for result in answer["results"]] == ["deconvnet", "unet"]
    assert answer["agreement"] == pytest.approx((masks[0] == masks[1]).mean())
    assert answer["results"][0]["mask_png"] == send(client, picture).json()["mask_png"]


def test_one_network_is_no_comparison(client, picture):
    assert_problem(send(client, picture, "/api/compare", models="unet"), 422, "two of")


@pytest.fixture(scope="module")
def explained(client, picture):
    return send(client, picture, "/api/explain").json()


def test_layers_channels_and_switches_of_a_picture_can_be_asked_for(client, explained):
    answer = explained
    layers = {layer["name"]: layer for layer in answer["layers"]}
    assert list(layers)[:3] == ["image", "conv1_1", "conv1_2"]
    pooled = layers["pool1"]
    at = f"/api/explain/{answer['id']}"
    channels = client.get(f"{at}/pool1").json()["channels"]
    assert len(channels) == pooled["channels"]
    alone = PIL.Image.open(io.BytesIO(client.get(f"{at}/pool1/0.png").content))
    assert alone.size == (pooled["width"], pooled["height"])
    grid = PIL.Image.open(io.BytesIO(client.get(f"{at}/pool1/grid.png?channels=0,1").content))
    assert grid.size[0] % 8 == 0
    trace = client.get(f"{at}/trace?x=10&y=12").json()
    assert [step["layer"] for step in trace["path"]][:1] in ([], ["unpool1"])
    reach = {part["layer"]: part for part in trace["reach"]}
    assert reach["scores"]["places"] == 1
    assert reach["unpool1"]["places"] <= 25  # two 3 x 3 windows
    assert picture_of(trace["reach_png"]).size == (answer["width"], answer["height"])


def test_large_pictures_are_looked_at_at_224_pixels(client):
    wide = encoded(pixels((448, 300)))
    answer = send(client, wide, "/api/explain", model="unet").json()
    assert (answer["width"], answer["height"]) == (224, 150)
    assert max(picture_of(answer["layers"][1]["thumbnail_png"]).size) == 64
    layer = f"/api/explain/{answer['id']}/{answer['layers'][1]['name']}"
    grid = client.get(f"{layer}/grid.png?channels=0")
    assert PIL.Image.open(io.BytesIO(grid.content)).size[0] == 8 * 56


def test_the_place_of_a_switch_lies_where_its_pixels_are(client, explained):
    trace = client.get(f"/api/explain/{explained['id']}/trace?x=10&y=12").json()
    for step in trace["path"]:
        if step["layer"] == "image":
            assert (step["left"], step["top"], step["size"]) == (step["x"], step["y"], 1)
        if step["layer"] == "pool1":
            assert (step["left"], step["top"], step["size"]) == (
                2 * step["x"],
                2 * step["y"],
                2,
            )


@pytest.mark.parametrize(
    ("tail", "status", "words"),
    [
        ("pool9", 422, ["no layer 'pool9'"]),
        ("pool1/999.png", 422, ["channels 0 to"]),
        ("pool1/grid.png?channels=", 422, ["0 channels"]),
        ("pool1/grid.png?channels=0,-3", 422, ["'-3' is no number of a channel"]),
        ("pool1/grid.png?channels=" + "9" * 5000, 422, ["is no number of a channel"]),
        ("pool1/grid.png?channels=" + ",".join(map(str, range(65))), 422, ["65 channels"]),
        ("trace?x=9999&y=0", 422, ["outside"]),
        ("trace?x=one&y=0", 422, ["'x'"]),
    ],
)
def test_what_is_not_inside_is_refused_in_words(client, explained, tail, status, words):
    assert_problem(client.get(f"/api/explain/{explained['id']}/{tail}"), status, *words)


def test_a_picture_that_is_no_longer_kept_is_gone(client):
    details = assert_problem(client.get("/api/explain/0123/pool1"), 410, "no longer kept")
    assert details["code"] == "gone"


def test_the_memory_of_what_is_kept_is_bounded(open_client, picture):
    client = open_client(kept_bytes=1)
    first = send(client, picture, "/api/explain", model="unet").json()["id"]
    again = encoded(pixels(seed=1))
    second = send(client, again, "/api/explain", model="unet").json()["id"]
    assert client.get(f"/api/explain/{first}/pool1").status_code == 410
    assert client.get(f"/api/explain/{second}/pool1").status_code == 200


def test_examples_are_drawn_and_stay_the_same(client):
    listed = client.get("/api/examples").json()
    assert len(listed) == 6
    first = client.get(listed[0]["url"])
    assert first.headers["content-type"] == "image/png"
    assert PIL.Image.open(io.BytesIO(first.content)).size == (400, 300)
    assert client.get(listed[0]["url"]).content == first.content
    assert_problem(client.get("/api/examples/6.png"), 404)


def test_a_format_that_browsers_cannot_show_becomes_a_png(client):
    response = send(client, encoded(kind="TIFF"), "/api/picture")
    shown = PIL.Image.open(io.BytesIO(response.content))
    np.testing.assert_array_equal(np.array(shown), pixels())


# what is refused


def bomb():
    """A PNG whose header says 30,000 x 30,000 pixels of RGB, 2.7 GB: a few bytes as a file."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "path", ["/api/segment", "/api/proposals", "/api/explain", "/api/picture"]
)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"not a picture", "no picture that can be read"),
        (encoded()[:60], "damaged or incomplete"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture that can be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
    ],
)
def test_what_is_no_picture_is_refused_with_the_command_lines_sentence(
    client, path, content, words
):
    response = send(client, content, path)
    if path == "/api/proposals":  # whose answer begins before the picture is decoded
        name, details = events_of(response.text)[-1]
        assert (name, details["status"]) == ("problem", 422)
    else:
        details = assert_problem(response, 422)
    assert details["code"] == "picture"
    assert words in details["detail"] or "damaged" in details["detail"]


def test_a_decompression_bomb_is_refused_from_its_header(client):
    began = time.monotonic()
    details = assert_problem(send(client, bomb()), 422, "30000 x 30000", "12,000,000")
    assert details["detail"].endswith("Send a smaller one.")
    assert time.monotonic() - began < 2


def test_pictures_too_large_for_keeping_scores_are_refused(open_client, picture):
    client = open_client(score_pixels=100)
    assert send(client, picture).status_code == 200
    assert_problem(send(client, picture, crf="true"), 413, "48 x 40", "up to 100")


def test_a_body_that_is_too_large_is_refused(open_client):
    client = open_client(upload_bytes=5000)
    assert_problem(send(client, bytes(6000)), 413, "5,000 bytes")


def test_a_body_without_a_length_is_counted_as_it_comes(open_client, picture):
    client = open_client(upload_bytes=5000)
    boundary = {"Content-Type": "multipart/form-data; boundary=x"}
    pieces = (b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n',)
    body = iter([*pieces, *[bytes(1000)] * 9, b"\r\n--x--\r\n"])
    assert_problem(client.post("/api/segment", content=body, headers=boundary), 413)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "unett"}, "Did you mean 'unet'?"),
        ({"model": "../../etc/passwd"}, "no model '../../etc/passwd'"),
        ({"proposals": "-1"}, "0 to 200"),
        ({"proposals": "201"}, "0 to 200"),
        ({"proposals": "9" * 5000}, "0 to 200"),
        ({"proposals": "²"}, "0 to 200"),
        ({"crf": "perhaps"}, "true or false"),
    ],
)
def test_fields_that_cannot_hold_their_value_are_refused(client, picture, fields, words):
    response = send(client, picture, **fields)
    assert response.status_code in (400, 422)
    if response.status_code == 422:
        assert_problem(response, 422, words)


def test_a_form_without_a_picture_is_refused(client):
    missing = client.post("/api/segment", files={"other": ("p.png", b"x")})
    assert_problem(missing, 422, "no file in the field 'image'")
    assert_problem(client.post("/api/segment", files={"image": ("p.png", b"")}), 422, "empty")
    assert_problem(client.post("/api/segment", json={"image": "x"}), 415, "application/json")
    assert_problem(client.post("/api/segment"), 415)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    broken = client.post("/api/segment", content=b"nonsense", headers=headers)
    assert broken.status_code in (400, 422)
    assert broken.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2fetc%2fpasswd",
        "/static/style.css%00.png",
        "/static/",
        "/static",
        "/etc/passwd",
        "/docs",
        "/redoc",
    ],
)
def test_paths_lead_to_nothing_but_the_files_of_the_page(client, path):
    assert_problem(client.get(path), 404)


def test_a_method_that_does_not_fit_is_refused(client):
    assert_problem(client.get("/api/segment"), 405, "GET")
    assert_problem(client.delete("/api/models"), 405)


def test_a_fault_of_the_server_says_nothing_of_its_inside(open_client, served, picture, caplog):
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("a secret of the network")

    client = open_client(models=[with_network(served[0], Broken())])
    assert_problem(send(client, picture), 500, "its log says where")
    assert "secret" not in send(client, picture).text
    last = events_of(send(client, picture, "/api/proposals", proposals="2").text)[-1]
    assert last[0] == "problem"
    assert last[1]["status"] == 500


# guards


def test_every_answer_has_the_headers_that_keep_a_browser_safe(client):
    for path in ("/", "/static/app.js", "/api/models", "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers


def test_the_api_asks_for_the_token_and_the_page_does_not(open_client):
    client = open_client(token="a long secret")  # noqa: S106
    assert client.get("/").status_code == 200
    assert client.get("/healthz").status_code == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a long secret"}):
        refused = client.get("/api/models", headers=headers)
        assert_problem(refused, 401, "Bearer TOKEN")
        assert refused.headers["www-authenticate"] == "Bearer"
    assert client.get("/openapi.json").status_code == 401
    given = client.get("/api/models", headers={"Authorization": "Bearer a long secret"})
    assert given.status_code == 200


def test_other_hosts_names_are_refused_on_loopback(open_client):
    client = open_client(hosts=("127.0.0.1", "localhost", "::1"))
    assert_problem(client.get("/api/models"), 421, "testserver")
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", "LOCALHOST:1"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example", ""):
        assert client.get("/healthz", headers={"Host": host}).status_code == 421


def test_other_sites_pages_may_not_ask(client, picture):
    refused = send(client, picture, headers={"Sec-Fetch-Site": "cross-site"})
    assert_problem(refused, 403)
    own = send(client, picture, headers={"Sec-Fetch-Site": "same-origin"})
    assert own.status_code == 200


def test_the_openapi_document_describes_every_route(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/healthz",
        "/api/models",
        "/api/examples",
        "/api/examples/{index}.png",
        "/api/segment",
        "/api/proposals",
        "/api/compare",
        "/api/picture",
        "/api/explain",
        "/api/explain/{id}/trace",
        "/api/explain/{id}/{layer}",
        "/api/explain/{id}/{layer}/grid.png",
        "/api/explain/{id}/{layer}/{channel}.png",
    }
    asked = document["paths"]["/api/segment"]["post"]
    form = asked["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"image", "model", "proposals", "crf", "confidence"}
    assert "application/problem+json" in asked["responses"]["503"]["content"]
    assert set(document["components"]["schemas"]["Problem"]["properties"]) == {
        "type",
        "title",
        "status",
        "detail",
        "code",
    }


def test_the_log_is_json_and_holds_no_field_and_no_query(client, picture, caplog):
    logging.getLogger("deconvnet.web").propagate = True  # a server may have set its own
    with caplog.at_level("INFO", "deconvnet.web"):
        send(client, picture, model="unet")
        client.get("/healthz?secret=1")
    about = [record.about for record in caplog.records if record.getMessage() == "request"]
    assert about[0]["path"] == "/api/segment"
    assert about[0]["status"] == 200
    assert about[0]["bytes_in"] > len(picture)
    assert "secret" not in json.dumps(about)
    assert "unet" not in json.dumps(about)


# work


class Slow(nn.Module):
    """A network that takes its time, and counts its batches."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds, self.batches, self.begun = seconds, 0, threading.Event()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        self.begun.set()
        time.sleep(self.seconds)
        return torch.zeros(len(images), 8, *images.shape[2:])


def with_network(served, network):
    from dataclasses import replace

    return Served("slow", replace(served.predictor, network=network), served.load_plain)


def test_requests_beyond_the_queue_hear_503_and_when_to_come_back(open_client, served, picture):
    network = Slow(0.4)
    client = open_client(models=[with_network(served[0], network)], workers=1, queue=1)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(send(client, picture))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert_problem(refused, 503, "ask again")
    assert int(refused.headers["retry-after"]) >= 1
    assert client.get("/healthz").json()["at_work"] == 0


def test_a_request_that_takes_too_long_is_stopped_between_two_batches(
    open_client, served, picture
):
    network = Slow(0.1)
    client = open_client(models=[with_network(served[0], network)], seconds=0.35)
    refused = send(client, picture, "/api/proposals", proposals="60")
    name, details = events_of(refused.text)[-1]
    assert (name, details["code"]) == ("problem", "time")
    batches = network.batches
    assert batches < 10
    time.sleep(0.3)
    assert network.batches <= batches + 1
    assert client.get("/healthz").json()["at_work"] == 0


def test_a_segmentation_that_takes_too_long_hears_503(open_client, served, picture):
    network = Slow(0.5)
    client = open_client(models=[with_network(served[0], network)], seconds=0.1)
    refused = send(client, picture)
    assert_problem(refused, 503, "more than 0.1 s")
    assert "retry-after" in refused.headers


def test_a_server_that_ends_takes_nothing_new(open_client, picture):
    client = open_client()
    client.app.state.service.room.close()
    assert_problem(send(client, picture), 503, "being stopped")
    assert client.get("/healthz").json()["status"] == "stopping"
