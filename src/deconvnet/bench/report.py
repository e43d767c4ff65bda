"""What was measured, as tables to be read and as JSON to be computed with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Row = tuple[str | int | float | None, ...]


@dataclass(frozen=True)
class Table:
    """One comparison."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    kind: str = ""
    """Of BENCHES; tells what a plot can be made of."""

    def to_text(self) -> str:
        """The table in aligned columns: words to the left, numbers to the right."""
        cells = [self.columns, *(tuple(map(_cell, row)) for row in self.rows)]
        columns = []
        for index, column in enumerate(zip(*cells, strict=True)):
            width = max(map(len, column))
            in_words = any(isinstance(row[index], str) for row in self.rows)
            columns.append(
                [cell.ljust(width) if in_words else cell.rjust(width) for cell in column]
            )
        lines = ["  ".join(line).rstrip() for line in zip(*columns, strict=True)]
        return "\n".join([self.title, *lines, *([self.note] if self.note else [])])


@dataclass(frozen=True)
class Report:
    """What was measured, and on what."""

    machine: Mapping[str, Any]
    tables: tuple[Table, ...]

    def to_text(self) -> str:
        """Everything, to be read."""
        width = max(map(len, self.machine)) + 2
        machine = "\n".join(f"{name:<{width}}{value}" for name, value in self.machine.items())
        return "\n\n".join([machine, *(table.to_text() for table in self.tables)])

    def to_json(self) -> dict[str, Any]:
        """Everything, to be computed with."""
        tables = [
            asdict(table)
            | {"rows": [dict(zip(table.columns, row, strict=True)) for row in table.rows]}
            for table in self.tables
        ]
        return {"machine": dict(self.machine), "tables": tables}


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:g}"
