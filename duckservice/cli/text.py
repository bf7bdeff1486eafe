"""Numbers, money and times as people read them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def money(usd: Any) -> str:
    """Return US dollars: cents from one dollar on, below it what is needed."""
    try:
        amount = Decimal(str(usd))
    except InvalidOperation:
        return "unknown"
    if not amount.is_finite():
        return "unknown"
    if amount == 0 or abs(amount) >= 1:
        return f"${amount:,.2f}"
    if abs(amount) < Decimal("0.000001"):
        return "<$0.000001"
    whole, _, decimals = f"{amount:.6f}".partition(".")
    return f"${whole}.{decimals.rstrip('0'):0<2}"


def elapsed(seconds: float) -> str:
    """Return a length of time in its two largest units, such as "2h 14m"."""
    rest = int(seconds)
    if rest < 1:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    parts: list[str] = []
    for unit, size in _UNITS:
        if rest >= size or parts:
            parts.append(f"{rest // size}{unit}")
            rest %= size
    return " ".join(part for part in parts[:2] if not part.startswith("0"))


def count(number: Any) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,}" if isinstance(number, int | float) else "-"


def size(count_bytes: Any) -> str:
    """Return a number of bytes in the largest unit that it fills, such as "1.5 GiB"."""
    if not isinstance(count_bytes, int | float):
        return "-"
    amount, unit = float(count_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"


def milliseconds(value: Any) -> str:
    """Return a time in milliseconds, with decimals only where they matter."""
    if not isinstance(value, int | float):
        return "-"
    return f"{value:,.0f}ms" if value >= 10 else f"{value:.1f}ms"


def percent(share: Any) -> str:
    """Return a share of 1 as a percentage."""
    return f"{share:.0%}" if isinstance(share, int | float) else "-"


def plural(number: int, thing: str) -> str:
    """Return "1 thing" or "2 things"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
