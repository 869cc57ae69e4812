"""A registry looked up along the class hierarchy, which refuses a parent's entry when the child changed behaviour."""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

# Methods a child may replace without changing what the layer computes.
_HARMLESS = frozenset(
    """
    __init__ __init_subclass__ __repr__ __str__ __dir__ __doc__ __module__ __annotations__ __annotate__ __dict__
    __weakref__ __qualname__ __slots__ __getstate__ __setstate__ __reduce__ __reduce_ex__ __copy__ __deepcopy__
    __hash__ __eq__ __constants__ __orig_bases__ __parameters__ __static_attributes__ __firstlineno__
    __abstractmethods__ _abc_impl __classcell__ __type_params__ extra_repr reset_parameters _reset_parameters
    _get_name train eval weight bias _load_from_state_dict _save_to_state_dict state_dict load_state_dict
    register_buffer register_parameter add_module _version
    """.split()  # noqa: SIM905 - a list of names reads better as prose
)


def overridden(cls: type, parent: type, instance: object | None = None) -> str | None:
    """Return the first behaviour of `parent` that `cls` (or the instance itself) replaces, or None.

    Not only `forward` counts: a convolution's `_conv_forward`, a `__call__`, a `__getattr__` decide the output too.
    `weight` and `bias` may become properties: rules read the effective weight.

    >>> class A:
    ...     def forward(self): ...
    >>> class B(A): pass
    >>> class C(A):
    ...     def forward(self): ...
    >>> overridden(B, A), overridden(C, A)
    (None, 'forward')
    """
    names = {n for base in parent.__mro__[:-1] for n in vars(base)} - _HARMLESS | {"__getattribute__"}
    for name in sorted(names):
        original = inspect.getattr_static(parent, name, None)
        if not callable(original) and not isinstance(original, property | classmethod | staticmethod):
            continue
        if inspect.getattr_static(cls, name, None) is not original:
            return name
        if instance is not None and isinstance(original, types.FunctionType) and name in vars(instance):
            return name
    return None


class Registry(Generic[T]):
    """Maps classes to entries; a lookup walks the hierarchy of the class asked for."""

    def __init__(self) -> None:
        self._entries: dict[type, T] = {}

    def add(self, cls: type, entry: T) -> None:
        """Register (or replace) the entry of a class."""
        self._entries[cls] = entry

    def find(self, cls: type, instance: object | None = None) -> tuple[type, T] | None:
        """Return (registered class, entry) for a class, or None when none holds for it.

        A parent's entry holds only if nothing that computes was overridden between the parent and the class.
        """
        for base in cls.__mro__:
            if base in self._entries:
                return None if overridden(cls, base, instance) else (base, self._entries[base])
        return None

    def close_matches(self, name: str, count: int = 3) -> list[str]:
        """Return the registered class names that look most like `name`."""
        known = sorted({cls.__name__ for cls in self._entries})
        lower = {n.lower(): n for n in known}
        return [lower[n] for n in difflib.get_close_matches(name.lower(), lower, n=count, cutoff=0.3)]

    def __contains__(self, cls: type) -> bool:
        return cls in self._entries

    def __iter__(self) -> Iterator[type]:
        return iter(self._entries)
