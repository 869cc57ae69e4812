"""What all commands share: options, exit statuses, parsing, tables, results."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from onelip.core import errors, files, numbers

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT, INTERRUPTED = 2, 130
P = ParamSpec("P")

Seed = Annotated[
    int, typer.Option("--seed", min=0, help="Seed of everything random; recorded in the results.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for results.json and what else is written.")]
# Options of the commands that go over a data set.
Model = Annotated[str, typer.Argument(help="Folder of a model or training, or the name of a shipped model.")]
Data = Annotated[
    str,
    typer.Argument(
        help="Name of a data set, folder with a dataset.toml or a subfolder a class, folder or table of LARD."
    ),
]
Split = Annotated[str, typer.Option(help="Part of the data set.")]
Eps = Annotated[str, typer.Option(help="Perturbation sizes, as 0.1 0.17.")]
Norm = Annotated[str, typer.Option(help="Norm of the perturbation: 1, 2 or inf.")]
Limit = Annotated[int, typer.Option(min=0, help="Number of images, evenly spread; 0: all.")]
Size = Annotated[str | None, typer.Option(help="Resize images to HxW before anything else.")]
Pictures = Annotated[int, typer.Option(min=0, help="Number of images shown in the report.")]
Score = Annotated[float | None, typer.Option(help="For detectors: threshold of the scores; by default 0.5.")]
Iou = Annotated[
    float | None, typer.Option(help="For detectors: overlap of a detection with its object; by default 0.5.")
]
Classes = Annotated[
    str | None,
    typer.Option(
        help="For detectors: classes of the data set in the order of the model's, as wbc platelets; by default all."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Keep the images that are done in --out.")]


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors of onelip into one sentence and status 2, an interruption into status 130."""

    @functools.wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> None:
        try:
            command(*args, **options)
        except errors.UnsoundError:
            raise  # a bug of ours: the traceback is what a report of it needs
        except errors.OnelipError as error:
            fail(" ".join(str(error).split()))
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt as error:
            fail("interrupted; what was done is kept, continue with --resume where the command has it")
            raise typer.Exit(INTERRUPTED) from error

    return run


def run_and_show(
    work: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any]], None], out: Path
) -> dict[str, Any]:
    """Do the work of a command over a data set, print its tables and its Python, and say where the results are.

    The report is written from what there is, also after an interruption.
    """
    from onelip import report

    try:
        results = work()
    except BaseException:
        # What the folder holds may be of another command: that must not stand in front of what went wrong.
        with contextlib.suppress(errors.OnelipError):
            report.write([out])
        raise
    page = report.write([out])
    show(results)
    show_padding(results["data"]["size"], results["data"]["padded_size"], results["data"]["stride"])
    show_python(results["python"])
    typer.echo(f"results: {out / 'results.json'}\nreport:  {page}")
    return results


def show_padding(size: Sequence[int], padded: Sequence[int], stride: int) -> None:
    """Say to what an image is padded, where its size is not a multiple of the model's stride.

    Example:
        >>> show_padding((250, 256), (256, 256), 8)
        input 250x256 is padded to 256x256 (stride 8)
    """
    if tuple(size) != tuple(padded):
        given, wanted = ("x".join(map(str, pair)) for pair in (size, padded))
        typer.echo(f"input {given} is padded to {wanted} (stride {stride})")


def fail(sentence: str) -> None:
    """Say on the error stream what went wrong."""
    sys.stderr.write(f"onelip: {sentence}\n")


def show_log() -> None:
    """Show the progress messages of a training on the error stream."""
    import logging

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("onelip").setLevel(logging.INFO)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Read a size HxW.

    Example:
        >>> parse_size("360x480")
        (360, 480)
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise errors.InputError(
            errors.explain(
                "--size is not a size", received=repr(text), expected="HxW, as 360x480 (height first)"
            )
        )
    return int(parts[0]), int(parts[1])


def parse_numbers(text: str, option: str = "--eps") -> list[float]:
    """Read numbers separated by commas (options of several values arrive joined by them).

    Example:
        >>> parse_numbers("0.1, 0.5")
        [0.1, 0.5]
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise errors.InputError(
            errors.explain(
                f"{option} is not a list of numbers", received=repr(text), expected="as 0.05 0.1 0.5"
            )
        ) from error


def parse_words(text: str | None) -> tuple[str, ...]:
    """Read words separated by commas.

    Example:
        >>> parse_words("wbc, platelets"), parse_words(None)
        (('wbc', 'platelets'), ())
    """
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def p_text(p: float) -> str:
    """A norm as it is written in Python.

    Example:
        >>> p_text(2.0), p_text(math.inf)
        ('2', 'float("inf")')
    """
    return 'float("inf")' if p == math.inf else f"{p:g}"


def console() -> Console:
    """Terminal for tables: plain text when the output is no terminal."""
    from rich.console import Console

    return Console(soft_wrap=False, width=None if sys.stdout.isatty() else 120)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; all columns but the first are right aligned when they hold numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        numeric = number > 0 and all(_numeric(row[number]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def _numeric(cell: object) -> bool:
    text = str(cell).removesuffix(" %").removesuffix(" s")
    return text in ("-", "") or text.replace(".", "").replace("-", "").replace("e", "").isdigit()


def show_python(code: str) -> None:
    """Print the Python that does the same."""
    console().print("The same in Python:", style="bold")
    for line in ["import onelip", *code.splitlines()]:
        console().print(f"    {line}", highlight=False, markup=False, soft_wrap=True)


def write_results(out: Path, results: dict[str, Any]) -> None:
    """Write results.json and say where."""
    files.write_json(out / "results.json", results)
    console().print(f"results: {out / 'results.json'}", markup=False, highlight=False, soft_wrap=True)


def percent(value: float | None, *, up: bool = False) -> str:
    """A certified share in per cent on the safe side: rounded down, or up where lower is better; a dash for None.

    Example:
        >>> percent(0.89999), percent(0.10001, up=True), percent(None)
        ('89.99 %', '10.01 %', '-')
    """
    if value is None:
        return "-"
    hundredths = math.ceil(value * 1e4 - 1e-9) if up else math.floor(value * 1e4 + 1e-9)
    return f"{hundredths / 100:.2f} %"


def radius_text(value: float | str | None) -> str:
    """A radius with four digits, rounded down; a dash where it is undefined.

    Example:
        >>> radius_text(0.123456), radius_text("inf"), radius_text(None)
        ('0.1234', 'inf', '-')
    """
    return "-" if value is None else numbers.round_down(float(value), 4)


def model_folder(path: str) -> str:
    """The folder of a model: also that of a training, which has it inside as `model`."""
    inner = Path(path) / "model"
    return str(inner) if (inner / "config.json").is_file() else path
