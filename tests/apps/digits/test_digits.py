"""The demo of digits: drawings are prepared as those of MNIST, answers carry proofs, only this machine is served."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
import torch

import onelip
from onelip.apps.digits.answer import Answers
from onelip.apps.digits.drawing import INK, centred, drawing, typed
from onelip.apps.digits.server import Server, reply
from onelip.core.errors import InputError
from onelip.models import create


@pytest.fixture(scope="module")
def answers():
    torch.manual_seed(0)
    return Answers(create("convnet", classes=10, size="XS", in_channels=1).eval())


@pytest.fixture(scope="module")
def address(answers):
    server = Server(answers, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.address.rstrip("/")
    server.shutdown()


def ask(address, data, kind="application/json", **headers):
    request = urllib.request.Request(
        f"{address}/answer", data=data, headers={"Content-Type": kind, **headers}, method="POST"
    )
    try:
        with urllib.request.urlopen(request) as found:
            return found.status, json.loads(found.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("box", [(5, 95, 45, 55), (10, 30, 10, 90), (0, 100, 0, 100), (99, 100, 99, 100)])
def test_ink_is_scaled_to_twenty_pixels_around_its_centre_of_mass(box):
    top, bottom, left, right = box
    picture = torch.zeros(100, 100)
    picture[top:bottom, left:right] = 1.0
    image = centred(picture)[0, 0]
    used = image > 0.5
    assert max(used.any(0).sum(), used.any(1).sum()) == INK
    places = torch.arange(28.0)
    for axis in (0, 1):
        centre = float((image.sum(axis) * places).sum() / image.sum())
        assert abs(centre - 13.5) <= 0.51


def test_position_and_size_of_a_drawing_do_not_matter():
    picture = typed("4")
    moved = torch.zeros(400, 300, dtype=picture.dtype)
    moved[150:350, 20:180] = picture
    assert torch.equal(centred(picture), centred(moved))


def test_typed_digits_differ():
    images = [centred(typed(str(k))) for k in range(10)]
    assert min(float((a - b).norm()) for i, a in enumerate(images) for b in images[:i]) > 1.0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: typed("x"), "no digit"),
        (lambda: typed(7), "no digit"),
        (lambda: drawing([[0, 1], [2]]), "not usable"),
        (lambda: drawing([[0, 256], [0, 0]]), "0 to 255"),
        (lambda: drawing([[0, float("nan")], [0, 0]]), "0 to 255"),
        (lambda: drawing([[0] * 600] * 600), "at most 512"),
        (lambda: drawing("abc"), "not usable"),
        (lambda: centred(torch.zeros(28, 28)), "nothing is drawn"),
    ],
)
def test_what_is_no_drawing_is_refused(make, text):
    with pytest.raises(InputError, match=text):
        make()


def test_an_answer_is_that_of_the_certificate_and_the_counterfactual(answers):
    image = centred(typed("3"))
    found = answers(image)
    certificate = onelip.certify.classification(answers.model, image)
    assert found["predicted"] == int(certificate.predicted)
    assert float(found["radius"]) <= float(certificate.radius)
    assert float(found["other"]["at_least"]) <= float(found["other"]["distance"])
    other = (found["predicted"] + 1) % 10
    wanted = answers(image, other)
    assert wanted["other"]["to"] == other
    assert float(wanted["other"]["at_least"]) >= float(found["other"]["at_least"]) - 1e-3
    with pytest.raises(InputError):
        answers(image, found["predicted"])


def test_a_model_of_something_else_is_refused():
    with pytest.raises(InputError, match="no classifier of digits"):
        Answers(create("convnet", classes=3, size="XS").eval())


def test_the_page_loads_nothing_from_elsewhere(address):
    with urllib.request.urlopen(address) as found:
        page, policy = found.read().decode(), found.headers["Content-Security-Policy"]
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in policy


def test_requests_are_answered_as_the_library_does(address, answers):
    status, found = ask(address, json.dumps({"key": "5"}).encode())
    assert (status, found) == (200, json.loads(json.dumps(reply(answers, {"key": "5"}))))
    rows = (typed("5") * 255).round().int().tolist()
    status, drawn = ask(address, json.dumps({"pixels": rows, "to": (found["predicted"] + 1) % 10}).encode())
    assert status == 200
    assert drawn["predicted"] == found["predicted"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"nonsense", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "not understood"),
        (b'{"key": "5", "pixels": []}', "not understood"),
        (b'{"key": "5", "more": 1}', "not understood"),
        (b'{"key": "5", "to": 10}', "10"),
        (b'{"key": "5", "to": true}', "no class"),
        (b'{"key": "<b>"}', "no digit"),
        (b'{"pixels": [[0, 0], [0, 0]]}', "nothing is drawn"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(address, body, text):
    status, found = ask(address, body)
    assert status == 400
    assert text in found


def test_pages_of_others_and_long_requests_are_refused(address):
    good = json.dumps({"key": "5"}).encode()
    assert ask(address, good, Host="evil.example:80")[0] == 404
    assert ask(address, good, kind="text/plain")[0] == 415
    assert ask(address, b" " * 2_000_001)[0] == 413


def test_the_command_serves_the_shipped_model_until_interrupted():
    command = [sys.executable, "-m", "onelip", "demo", "--digits", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        where = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        status, found = ask(where, json.dumps({"key": "7"}).encode())
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert (status, found["predicted"], process.returncode) == (200, 7, 0)
    assert float(found["radius"]) > 0.5
    assert "ended" in rest


def test_a_port_that_is_taken_is_an_error(address):
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "onelip", "demo", "--digits", "--port", port]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert f"port {port} cannot be used" in found.stderr
