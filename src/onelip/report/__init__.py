"""Reports: one self-contained HTML file, readable without a network, in light and dark."""

from __future__ import annotations

from onelip.report.html import read, render, write

__all__ = ["read", "render", "write"]
