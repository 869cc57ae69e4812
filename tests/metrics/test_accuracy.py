"""Certified accuracy over many batches: counts, whatever the order and form in which they come."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from onelip.certify import ClassificationCertifier, pair_constants
from onelip.core.errors import InputError
from onelip.metrics import CertifiedAccuracy

EPS = [0.0, 0.1, 0.3, 1.0]


@pytest.fixture
def scene():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).double().eval()
    images = torch.rand(30, 1, 3, 3, dtype=torch.float64)
    labels = model(images).argmax(1)
    labels[::4] = (labels[::4] + 1) % 3
    return model, images, labels


def test_batches_give_the_accuracy_of_all_images(scene):
    model, images, labels = scene
    certifier = ClassificationCertifier(model)
    whole = certifier(images, labels)
    forth, back = CertifiedAccuracy(EPS), CertifiedAccuracy(EPS)
    for i in range(0, 30, 7):
        forth.update(certifier(images[i : i + 7], labels[i : i + 7]))
    for i in reversed(range(0, 30, 11)):
        back.update(certifier(images[i : i + 11], labels[i : i + 11]))
    curve = forth.compute()
    assert curve.values.tolist() == whole.accuracy(EPS).tolist() == back.compute().values.tolist()
    assert curve.clean == whole.clean_accuracy
    assert curve.count == 30
    assert curve.criterion == "accuracy"
    assert 0 < curve.values[2] < curve.values[1] < curve.clean
    assert curve.to_dict()["values"] == curve.values.tolist()


def test_logits_and_constants_give_the_same(scene):
    model, images, labels = scene
    by_certificate, by_logits = CertifiedAccuracy(EPS), CertifiedAccuracy(EPS)
    by_certificate.update(ClassificationCertifier(model)(images, labels))
    by_logits.update(model(images), labels, pair_constants(model, (1, 3, 3)))
    assert by_logits.compute().values.tolist() == by_certificate.compute().values.tolist()


def test_a_tie_is_right_and_not_robust():
    metric = CertifiedAccuracy([0.0])
    metric.update(torch.tensor([[1.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 0]), constants=1.0)
    curve = metric.compute()
    assert (curve.clean, curve.values.tolist()) == (1.0, [0.5])
    metric.reset()
    metric.update(torch.tensor([[-2.0], [0.0]]), torch.tensor([0, 1]), constants=1.0)
    assert (metric.compute().clean, metric.compute().values.tolist()) == (0.5, [0.5])


def test_nothing_seen_is_nan_and_copies_go_on_alone(scene):
    model, images, labels = scene
    metric = CertifiedAccuracy(EPS)
    with pytest.warns(UserWarning, match="compute"):
        assert math.isnan(metric.compute().clean)
    metric.update(model(images), labels, 1.0)
    other = pickle.loads(pickle.dumps(copy.deepcopy(metric)))
    other.update(model(images[:1]), labels[:1], 1.0)
    assert (metric.compute().count, other.compute().count) == (30, 31)


def test_errors_say_what_to_do(scene):
    model, images, labels = scene
    certificate = ClassificationCertifier(model)(images, labels)
    metric = CertifiedAccuracy(EPS)
    with pytest.raises(InputError, match=r"update\(logits, targets, constants\)"):
        metric.update(model(images))
    with pytest.raises(InputError, match="the certificate alone"):
        metric.update(certificate, labels)
    with pytest.raises(InputError, match="a certificate with targets, for p=2"):
        metric.update(ClassificationCertifier(model)(images))
    with pytest.raises(InputError, match="a certificate with targets, for p=1"):
        CertifiedAccuracy(EPS, p=1).update(certificate)
    with pytest.raises(InputError, match="labels outside the classes"):
        metric.update(model(images), labels + 1, 1.0)
    with pytest.raises(InputError, match="unusable entry"):
        CertifiedAccuracy([math.nan])
    assert int(metric.count) == 0
