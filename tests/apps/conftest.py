"""The command line in this process, and a small model for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import onelip
from onelip.apps.cli import main


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command without the seconds that a new process needs to import torch."""

    def inner(*words):
        monkeypatch.setattr(sys, "argv", ["onelip", *map(str, words)])
        status = main()
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(words, status, captured.out, captured.err)

    return inner


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained model of the eight classes of the drawn scenes."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    onelip.models.create("fcn", classes=8, size="XS").eval().save(folder, size=(32, 48))
    return folder
