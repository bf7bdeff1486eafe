"""How a function ended, as a value: it may be looked at more than once."""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar

import attrs

T = TypeVar("T")


@attrs.frozen
class Returned(Generic[T]):
    """It returned ``value``."""

    value: T

    def unwrap(self) -> T:
        """Return the value."""
        return self.value


@attrs.frozen
class Raised:
    """It raised ``error``."""

    error: BaseException

    def unwrap(self) -> NoReturn:
        """Raise the error."""
        raise self.error
