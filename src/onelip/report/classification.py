"""What a report calls the criteria of a classifier."""

from __future__ import annotations

NAMES = {
    "accuracy": "accuracy",
    "accuracy_joint": "accuracy, one constant for all pairs",
    "stability": "class unchanged, right or wrong",
}


def named(key: str) -> str:
    """A criterion in words.

    Example:
        >>> named("accuracy"), named("not:cat")
        ('accuracy', 'not taken for cat')
    """
    return f"not taken for {key[4:]}" if key.startswith("not:") else NAMES.get(key, key)
