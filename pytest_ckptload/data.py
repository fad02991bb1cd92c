"""Frozen data: a short ``repr``, a short JSON form, and the way back from it.

Apart from cases, which are such data, because nothing here knows what it is the data of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar, TypeVar

__all__ = ["Data", "each", "mapping"]

D = TypeVar("D", bound="Data")


class Data:
    """What frozen dataclasses inherit: their ``repr`` leaves out what has its default value, and
    evaluates to the same data.

    ``parts`` says for fields that hold other data what makes it of its JSON form.
    """

    parts: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}

    def _departures(self) -> dict[str, Any]:
        shown = {}
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            if default is MISSING or value != default:
                shown[f.name] = value
        return shown

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self._departures().items())
        return f"{type(self).__name__}({inner})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Hypothesis and IPython print so; Hypothesis would print every field of a dataclass."""
        printer.text(repr(self))

    def as_dict(self) -> dict[str, Any]:
        """The data as JSON-able dicts, without what has its default value."""
        return {name: _plain(value) for name, value in self._departures().items()}

    @classmethod
    def from_dict(cls: type[D], data: Mapping[str, Any]) -> D:
        """The data that ``as_dict`` made dicts of.

        Raises ``ValueError`` for a key that is no field, ``TypeError`` where one is missing.
        """
        known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        if unknown := sorted(set(data) - set(known)):
            raise ValueError(f"unknown keys {unknown}; a {cls.__name__} has {', '.join(known)}")
        return cls(**{name: cls.parts.get(name, _tuples)(value) for name, value in data.items()})


def each(part: type[Data]) -> Callable[[Any], Any]:
    """What makes a tuple of such data."""
    return lambda items: tuple(part.from_dict(item) for item in items)


def mapping(part: type[Data]) -> Callable[[Any], Any]:
    """What makes a dict of such data by name."""
    return lambda items: {name: part.from_dict(item) for name, item in items.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Data):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _tuples(value: Any) -> Any:
    """JSON has lists where the data has tuples."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    return value
