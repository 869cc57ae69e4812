"""`python -m onelip`: the command line."""

from __future__ import annotations

import sys

from onelip.apps.cli import main

sys.exit(main())
