"""Render a set of runway pictures into a folder: several processes, and nothing lost when it is killed."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path

from ...core.checks import positive_int
from ...core.errors import InputError, OnelipError, StorageError, explain
from ...core.files import atomic_write, read_json, write_json
from ..contact import png, sheet
from .export import Record, coco, record, row
from .recipe import Recipe
from .schema import write_table

JOURNAL = "progress.jsonl"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SHOWN = 24  # pictures on the contact sheet
Progress = Callable[[int], None]


def write(
    out: str | Path, recipe: Recipe, *, workers: int = 1, progress: Progress | None = None
) -> list[Record]:
    """Render the pictures of a recipe to `out`/SPLIT, those that are not there yet.

    Guarantee:
        Files are written whole or not at all. However often this is interrupted or killed, the files of a finished
        run are byte for byte those of a run that was not (with the same versions of numpy and Pillow).

    Args:
        out: Folder of the set.
        recipe: What is rendered.
        workers: Number of processes.
        progress: Called after each picture with the number that are done.

    Returns:
        One record a picture, in order: see `export.record`.

    Raises:
        InputError: `workers` < 1, or the folder holds pictures of another recipe or other files.
        StorageError: a file could not be written.
    """
    positive_int("workers", workers)
    recipe.dataset()  # an unusable recipe is refused here, in one sentence
    folder = Path(out) / recipe.split
    _claim(folder, recipe)
    done = _journal(folder, recipe.n)
    _rewrite(folder, done)
    progress = progress or (lambda _: None)
    progress(len(done))
    missing = [index for index in range(recipe.n) if index not in done]
    draw = _in_this_process if workers == 1 else _in_processes
    for found in draw(recipe, folder, missing, workers):
        done[found["index"]] = found
        _append(folder, found)
        progress(len(done))
    records = [done[index] for index in range(recipe.n)]
    _finish(folder, records)
    return records


def _claim(folder: Path, recipe: Recipe) -> None:
    """Write recipe.json, or check that the one there is the same."""
    path, wanted = folder / "recipe.json", recipe.to_dict()
    if path.is_file():
        found = read_json(path)
        differs = [k for k in wanted if not isinstance(found, dict) or found.get(k) != wanted[k]]
        if differs:
            raise InputError(
                explain(
                    f"{folder} was begun with another recipe",
                    received=", ".join(f"{k} {wanted[k]!r}" for k in differs),
                    expected=", ".join(f"{k} {found.get(k)!r}" for k in differs),
                    why="pictures of two recipes must not be mixed",
                    fix="repeat the options of recipe.json, or choose another folder with --out",
                )
            )
        return
    strangers = [p.name for p in folder.iterdir() if not p.name.startswith(".")] if folder.is_dir() else []
    if strangers:
        raise InputError(
            explain(
                f"{folder} holds other files",
                received=", ".join(sorted(strangers)[:4]),
                expected="a new or empty folder, or one that was begun by this command",
                fix="choose another folder with --out",
            )
        )
    write_json(path, wanted)


def _journal(folder: Path, n: int) -> dict[int, Record]:
    """Records whose picture and mask are there."""
    lines: list[Record] = []
    if (folder / "poses.json").is_file():
        lines = list(read_json(folder / "poses.json"))
    if (folder / JOURNAL).is_file():
        for line in (folder / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                break  # torn when the process was killed
    return {
        found["index"]: found
        for found in lines
        if found["index"] < n and all((folder / found[kind]).is_file() for kind in ("image", "mask"))
    }


def _rewrite(folder: Path, done: dict[int, Record]) -> None:
    atomic_write(folder / JOURNAL, "".join(json.dumps(r, allow_nan=False) + "\n" for r in done.values()))


def _append(folder: Path, found: Record) -> None:
    try:
        with (folder / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(json.dumps(found, allow_nan=False) + "\n")
    except OSError as error:
        raise StorageError(
            explain(f"could not write {folder / JOURNAL}", received=error.strerror, fix="free some space")
        ) from error


def _finish(folder: Path, records: list[Record]) -> None:
    """Write the tables and the contact sheet, and remove what is only needed on the way."""
    write_table(folder / f"{folder.name}.csv", [row(found) for found in records])
    write_json(folder / "coco.json", coco(records))
    write_json(folder / "poses.json", records)
    shown = [
        (folder / found["image"], found["box"], found["corners"], found["image"])
        for found in records[:_SHOWN]
    ]
    atomic_write(folder / "contact.png", png(sheet(shown)))
    (folder / JOURNAL).unlink(missing_ok=True)
    for place in (folder, folder / "images", folder / "masks"):
        for left in place.glob(".*.*.*"):  # temporary neighbours of a process that was killed
            left.unlink(missing_ok=True)


class _Painter:
    """Renders and writes single pictures."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.dataset, self.folder = recipe.dataset(), folder

    def __call__(self, index: int) -> Record:
        rendered = self.dataset.rendered(index)
        found = record(rendered, index)
        atomic_write(self.folder / found["mask"], png(rendered.mask))
        atomic_write(self.folder / found["image"], png(rendered.image))
        return found


def _in_this_process(recipe: Recipe, folder: Path, missing: list[int], _: int) -> Iterator[Record]:
    paint = _Painter(recipe, folder)
    yield from map(paint, missing)


_painters: list[_Painter] = []  # the one of this worker process


def _begin(recipe: Recipe, folder: Path) -> None:
    """Make a worker that does not outlive its parent, even if that is killed."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    _painters[:] = [_Painter(recipe, folder)]


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _paint(index: int) -> Record:
    return _painters[0](index)


def _in_processes(recipe: Recipe, folder: Path, missing: list[int], workers: int) -> Iterator[Record]:
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        min(workers, len(missing)), mp_context=context, initializer=_begin, initargs=(recipe, folder)
    )
    try:
        with _calm_children():
            waiting: set[Future[Record]] = {pool.submit(_paint, index) for index in missing}
        while waiting:
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool as error:
        raise OnelipError(
            explain(
                "a process that renders died",
                why="it was killed, or there was no memory left",
                fix="run the same command again: it goes on where it stopped; --workers 1 needs the least memory",
            )
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _calm_children() -> Iterator[None]:
    """Start processes with one thread each, which leave Ctrl-C to this one."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            with suppress(KeyError):
                os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
