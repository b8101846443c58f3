"""Named slices of a flat float row, so that code need not index it by bare numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """A named slice of a row: how many floats, in which unit, and what they mean."""

    name: str
    size: int
    unit: str
    meaning: str


class Layout:
    """The order of fields in a row.

    >>> row = Layout(Field("position", 3, "m", "where"), Field("speed", 1, "m/s", "how fast"))
    >>> row.size, row["speed"], row.start("speed")
    (4, slice(3, 4, None), 3)
    """

    def __init__(self, *fields: Field) -> None:
        self.fields = fields
        self._slices: dict[str, slice] = {}
        start = 0
        for field in fields:
            self._slices[field.name] = slice(start, start + field.size)
            start += field.size
        self.size = start

    def __getitem__(self, name: str) -> slice:
        try:
            return self._slices[name]
        except KeyError:
            raise KeyError(f"no field {name!r} in this row; it has {', '.join(self._slices)}") from None

    def start(self, name: str) -> int:
        """Index of the first float of a field."""
        return int(self[name].start)

    def names(self) -> tuple[str, ...]:
        """Field names in order."""
        return tuple(self._slices)
