"""What every other part stands on: errors, argument checks, files, numbers, run-time facts. No torch at import."""

from . import checks, errors, files, numbers, registry, runtime

__all__ = ["checks", "errors", "files", "numbers", "registry", "runtime"]
