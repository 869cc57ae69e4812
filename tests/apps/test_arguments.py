"""Options of several values, however they are written."""

from __future__ import annotations

import pytest

from onelip.apps.arguments import join_lists

WAYS = [
    "certify m d --eps 0.1 0.17 0.5",
    "certify m d --eps 0.1,0.17,0.5",
    "certify m d --eps 0.1, 0.17, 0.5",
    "certify m d --eps=0.1 0.17,0.5",
    "certify m d --eps 0.1 --eps 0.17 --eps=0.5",
]


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_are_one(way):
    assert join_lists(way.split()) == ["certify", "m", "d", "--eps=0.1,0.17,0.5"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("certify --eps 0.1 0.2 m d", "certify --eps=0.1,0.2 m d"),
        ("certify --criteria miou iou:car runs/a camvid", "certify --criteria=miou,iou:car runs/a camvid"),
        (
            "certify --threshold fnr:polyp=0.95 accuracy=0.8 m d",
            "certify --threshold=fnr:polyp=0.95,accuracy=0.8 m d",
        ),
        (
            "compare m d --smoothing sigma=0.1,0.2 --eps 0.1 0.17",
            "compare m d --smoothing=sigma=0.1,0.2 --eps=0.1,0.17",
        ),
        ("compare --smoothing sigma=0.1 0.2 m d", "compare --smoothing=sigma=0.1,0.2 m d"),
        ("certify m d --eps small", "certify m d --eps=small"),
        ("certify m d --eps -1 2", "certify m d --eps=-1,2"),
        ("certify m d --eps", "certify m d --eps"),
        ("certify m d --eps --resume", "certify m d --eps --resume"),
        ("certify --eps 1 -- 2 --eps 3", "certify --eps=1 -- 2 --eps 3"),
        ("train demo --set a=1 b", "train demo --set a=1 b"),
        (
            "certify m d --size 32x48 --criteria fnr:a:b=c x/y:z",
            "certify m d --size 32x48 --criteria=fnr:a:b=c x/y:z",
        ),
        (
            "certify m d --criteria miou --threshold=fnr:0=0.9",
            "certify m d --criteria=miou --threshold=fnr:0=0.9",
        ),
        ("", ""),
    ],
)
def test_only_values_are_taken(given, expected):
    assert join_lists(given.split()) == expected.split()


def test_names_with_spaces_stay_whole():
    assert join_lists(["certify", "--criteria", "iou:traffic light", "miou"]) == [
        "certify",
        "--criteria=iou:traffic light,miou",
    ]
