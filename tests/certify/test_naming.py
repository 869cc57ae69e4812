"""Names of criteria as commands write them."""

from __future__ import annotations

import pytest

from onelip.certify import Dice, FalseNegativeRate, IoU, PixelAccuracy, Recall, Stability, parse
from onelip.core import errors

CLASSES = ["road", "Car", "sky"]


@pytest.mark.parametrize(
    ("text", "criterion"),
    [
        ("accuracy", PixelAccuracy()),
        (" Stability ", Stability()),
        ("recall:1", Recall(1)),
        ("FNR:car", FalseNegativeRate(1)),
        ("fnr: Sky", FalseNegativeRate(2)),
        ("iou:car", IoU(1)),
        ("dice:0", Dice(0)),
    ],
)
def test_names(text, criterion):
    assert parse(text, CLASSES) == criterion


def test_indices_need_no_classes_and_void_is_passed_on():
    assert parse("recall:7") == Recall(7)
    assert parse("accuracy", ignore_index=7) == PixelAccuracy(7)
    assert parse("recall:2", ignore_index=7) == Recall(2, 7)


def test_criteria_say_which_class_they_are_about():
    assert [parse(t, CLASSES).name for t in ("accuracy", "recall:car", "fnr:sky")] == [
        "PixelAccuracy",
        "Recall(1)",
        "FalseNegativeRate(2)",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("acuracy", "unknown criterion.*'acuracy'.*to fix: accuracy"),
        ("", "unknown criterion"),
        ("recall", "expected accuracy.*recall:CLASS"),
        ("recal:car", "to fix: recall:CLASS"),
        ("recall:", "unknown criterion"),
        ("accuracy:1", "unknown criterion"),
        ("recall:cra", "unknown class.*one of road, Car, sky.*to fix: car"),
        ("recall:3", "unknown class"),
        ("recall:-1", "unknown class"),
    ],
)
def test_unknown_names_raise_with_the_closest_known(text, message):
    with pytest.raises(errors.InputError, match=message):
        parse(text, CLASSES)
    with pytest.raises(errors.InputError, match="an index >= 0"):
        parse("recall:car")


def test_a_class_cannot_be_void():
    with pytest.raises(errors.InputError, match=r"`positive` is not a class.*255"):
        parse("recall:255")
