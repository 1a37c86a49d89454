"""Rows of a table with commas that a quote has swallowed: it was opened and not meant."""

from __future__ import annotations

from collections import Counter
from itertools import islice

SAMPLE = 2000  # rows that tell what cells look like
LONGEST = 30  # characters of a cell that comes again and again, such as a label
OFTEN = 3  # times that such a cell is seen at least
MOST = 100  # cells of several lines that are kept


class SwallowedRows:
    """Finds a cell of several lines that are rows themselves, by cells that come again and again.

    A quote that opens a text and is not closed goes on to the next quote, some rows further, and
    the texts and labels of all these become one text. The lines of such a cell have the columns of
    rows and, in one of them, what stands there in other rows.

    Args:
        columns: number of columns.
        separator: between them.
    """

    def __init__(self, columns: int, separator: str):
        self.columns, self.separator = columns, separator
        self.usual = [Counter() for _ in range(columns)]
        self.rows = 0
        self.doubtful: list[tuple[list[str], int, int, int]] = []

    def see(self, cells: list[str], first: int, last: int) -> None:
        """Takes a row of lines `first` to `last`."""
        if first == last:
            if self.rows < SAMPLE:
                self.rows += 1
                for counter, cell in zip(self.usual, cells, strict=True):
                    if len(cell) <= LONGEST:
                        counter[cell] += 1
        elif len(self.doubtful) < MOST:
            for place, cell in enumerate(cells):
                if "\n" in cell and self.separator in cell:
                    self.doubtful.append((cells, place, first, last))

    def found(self) -> tuple[int, int] | None:
        """First and last line of a cell that holds rows; None: there is none."""
        for cells, place, first, last in self.doubtful:
            if self._holds_rows(cells, place):
                return first, last
        return None

    def _holds_rows(self, cells: list[str], place: int) -> bool:
        """Whether all lines of the cell at `place` are rows, the first and last one parts of one.

        Where a quote swallows but one end of a line, a number behind a comma is not enough.
        """
        top, *inside, bottom = (line.split(self.separator) for line in cells[place].split("\n"))
        rows = [[*cells[:place], *top], *inside, [*bottom, *cells[place + 1 :]]]
        if any(len(row) != self.columns for row in rows):
            return False
        told = [self._told(rows[0], place + 1, self.columns)]
        told += [self._told(row, 0, self.columns) for row in inside]
        told += [self._told(rows[-1], 0, place)]
        seen = [cell for cell in told if cell is not None]
        return len(seen) >= len(rows) - 1 and (
            len(rows) > 2 or not all(cell.strip().isdecimal() for cell in seen)
        )

    def _told(self, row: list[str], begin: int, end: int) -> str | None:
        """A cell of some columns that comes there again and again."""
        places = islice(range(self.columns), begin, end)
        return next((row[i] for i in places if self.usual[i][row[i]] >= OFTEN), None)
