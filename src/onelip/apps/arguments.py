"""Options that take several values: `--eps 0.1 0.17`, `--eps 0.1,0.17` and `--eps 0.1 --eps 0.17` are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

CRITERIA = ("accuracy", "stability", "recall", "fnr", "iou", "dice", "miou")
GOALS = ("vanish", "fabricate", "count", "mislabel", "shift", "errors", "accuracy", "stability", "to")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_criterion(text: str) -> bool:
    name, _, label = text.partition(":")
    return name.lower() in CRITERIA or (bool(label) and "/" not in text and "\\" not in text)


def _is_class(text: str) -> bool:
    return "/" not in text and not Path(text).exists()


def _is_goal(text: str) -> bool:
    return text.lower().partition("@")[0].partition(":")[0] in GOALS and not Path(text).is_dir()


def _is_assignment(text: str) -> bool:
    name, _, value = text.rpartition("=")
    return bool(name) and _is_number(value)


LISTS: dict[str, Callable[[str], bool]] = {
    "--eps": _is_number,
    "--criteria": _is_criterion,
    "--goal": _is_goal,
    "--classes": _is_class,
    "--threshold": _is_assignment,
    "--smoothing": lambda text: _is_assignment(text) or _is_number(text),
}


def join_lists(words: Sequence[str]) -> list[str]:
    """Write each option of several values once, with commas; all other words stay where they are.

    The first word after such an option is always its value, later ones only when they look like one: names of
    models and data sets that follow are left alone.

    Example:
        >>> join_lists(["certify", "--eps", "0.1", "0.17", "runs/a", "scenes", "--eps", "0.5"])
        ['certify', '--eps=0.1,0.17,0.5', 'runs/a', 'scenes']
        >>> join_lists(["certify", "a", "b", "--criteria", "miou", "iou:car", "--limit", "3"])
        ['certify', 'a', 'b', '--criteria=miou,iou:car', '--limit', '3']
    """
    found: dict[str, list[str]] = {}
    place: dict[str, int] = {}
    out: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "--":
            out += [word, *queue]
            break
        option, equals, value = word.partition("=")
        if option not in LISTS:
            out.append(word)
            continue
        if not equals and (not queue or queue[0].startswith("--")):
            out.append(word)  # no value at all: the parser says so
            continue
        values = [value if equals else queue.pop(0)]
        while queue and _are_values(queue[0], LISTS[option]):
            values.append(queue.pop(0))
        if option not in place:
            place[option] = len(out)
            out.append(option)
        found.setdefault(option, []).extend(part.strip().strip(",") for part in values)
    for option, values in found.items():
        out[place[option]] = f"{option}={','.join(values)}"
    return out


def _are_values(word: str, fits: Callable[[str], bool]) -> bool:
    parts = [part for part in word.split(",") if part.strip()]
    return not word.startswith("--") and bool(parts) and all(fits(part.strip()) for part in parts)
