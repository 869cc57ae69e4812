"""Files that are either written completely or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import DataError, StorageError, explain


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(
        explain(
            f"could not write {path}",
            received=error.strerror or str(error),
            why="nothing was changed: what was there before is still there",
            fix="free some space or choose another folder with --out",
        )
    )


def atomic_write(path: str | Path, data: str | bytes) -> None:
    """Write a file through a temporary neighbour and a rename: readers see the old or the new content, whole.

    Raises:
        StorageError: the file could not be written (disk full, no permission); the old content is kept.
    """
    path = Path(path)
    raw = data.encode() if isinstance(data, str) else data
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes private files; results are meant to be shared
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise _storage_error(path, error) from error


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Build a folder aside and move it into place on success; on any error the old folder stays as it was.

    Raises:
        StorageError: the folder could not be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise _storage_error(path, error) from error
    try:
        yield fresh
        os.chmod(fresh, 0o755)  # noqa: S103 - as any new folder
        _swap(fresh, path)
    except StorageError:
        raise
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(fresh: Path, path: Path) -> None:
    """Put `fresh` at `path`; the old content is only removed once the new one stands."""
    if not path.exists():
        os.replace(fresh, path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    os.replace(path, old / "content")
    try:
        os.replace(fresh, path)
    except OSError:
        os.replace(old / "content", path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically, with strict numbers (NaN and infinities must be encoded by the caller as null or text)."""
    atomic_write(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(explain(f"{path} does not exist", expected="a JSON file")) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            explain(
                f"{path} cannot be read as JSON", received=error, fix="restore the file, or write it again"
            )
        ) from error


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
