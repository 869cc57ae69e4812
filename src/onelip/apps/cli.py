"""The `onelip` command."""

from __future__ import annotations

import sys

import typer

from onelip.apps import attack, certify, compare, data, demo, explain, export, info, report, train
from onelip.apps.anomaly import command as anomaly
from onelip.apps.arguments import join_lists
from onelip.apps.common import INTERRUPTED, fail

app = typer.Typer(
    name="onelip",
    help="Proven Lipschitz bounds for vision networks, and the robustness certificates that follow from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("info")(info.info)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("certify")(certify.certify)
app.command("attack")(attack.attack)
app.command("compare")(compare.compare)
app.command("explain")(explain.explain)
app.add_typer(anomaly.app, name="anomaly")
app.command("report")(report.report)
app.command("demo")(demo.demo)
app.command("export")(export.export)


def main() -> int:
    """Run the command line; returns the exit status 0 done, 2 bad input, 130 interrupted."""
    try:
        app(args=join_lists(sys.argv[1:]), prog_name="onelip")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        fail("interrupted")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
