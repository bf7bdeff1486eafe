"""Sums over the beginning of a row of numbers, however long: a Fenwick tree.

Place *i* of the tree holds the sum of as many numbers before *i* as the lowest bit
of *i* says; so a sum, a change and a search each look at one place per bit.
"""

from __future__ import annotations

from collections.abc import Iterable


class RunningSums:
    """Numbers in a row, none negative; every operation takes logarithmic time."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._tree = [0]
        for number in numbers:
            self.append(number)

    def __len__(self) -> int:
        return len(self._tree) - 1

    def append(self, number: int) -> None:
        """Put *number* at the end of the row."""
        at = len(self._tree)
        lowest, step, total = at & -at, 1, number
        while step < lowest:
            total += self._tree[at - step]
            step *= 2
        self._tree.append(total)

    def add(self, index: int, change: int) -> None:
        """Add *change* to the number at *index*."""
        at = index + 1
        while at < len(self._tree):
            self._tree[at] += change
            at += at & -at

    def before(self, index: int) -> int:
        """Return the sum of the numbers in front of *index*."""
        total, at = 0, index
        while at:
            total += self._tree[at]
            at -= at & -at
        return total

    def reaching(self, least: int) -> int:
        """Return the first index such that the sum up to and with it is *least*.

        It is the length of the row where all of them together are less.
        """
        at, missing = 0, least
        step = 1 << (len(self._tree) - 1).bit_length()
        while step:
            beyond = at + step
            if beyond < len(self._tree) and self._tree[beyond] < missing:
                at = beyond
                missing -= self._tree[beyond]
            step //= 2
        return at
