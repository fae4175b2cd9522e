"""What a server's headers say about when to call again."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_S = 7 * 86_400.0
"""No header is believed beyond this."""

_UNITS_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d{1,12}(?:\.\d{1,12})?(?:ms|us|µs|ns|d|h|m|s))+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)", re.ASCII)
_NUMBER = re.compile(r"\d{1,14}(?:\.\d{1,12})?", re.ASCII)
_EPOCH_FROM = 1e9
"""A plain number this large is a time since 1970, not a duration."""
_EPOCH_MS_FROM = 1e12
"""And one this large is in milliseconds."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What is left of the rate limits, as a response states it; None where it does not."""

    requests: int | None
    requests_reset_s: float | None
    tokens: int | None
    tokens_reset_s: float | None


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait by `retry-after-ms` or `Retry-After` (seconds or an HTTP date); None where neither is readable.

    `now` is the wall clock in seconds since 1970. The result is in [0, LONGEST_S].
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    value = headers.get("Retry-After")
    if value is None:
        return None
    seconds = _number(value)
    if seconds is not None:
        return _bounded(seconds)
    try:
        date = parsedate_to_datetime(value)
        return _bounded((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def reset_s(value: str, now: float) -> float | None:
    """Seconds until a limit resets: `1s`, `6m0s`, `20ms`, `12` (seconds), a time since 1970 (s, ms) or an ISO date."""
    value = value.strip()
    number = _number(value)
    if number is not None:
        number = number / 1000 if number >= _EPOCH_MS_FROM else number
        return _bounded(number - now if number >= _EPOCH_FROM else number)
    if len(value) <= 64 and _DURATION.fullmatch(value):
        return _bounded(math.fsum(float(amount) * _UNITS_S[unit] for amount, unit in _PART.findall(value)))
    try:
        date = datetime.fromisoformat(value)
        return _bounded((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def rate_limits(headers: Mapping[str, str], now: float) -> RateLimits | None:
    """The `x-ratelimit-*` headers of a response; None where it has none. Those that name no unit count requests."""
    unit = "-requests"
    requests = headers.get("x-ratelimit-remaining-requests")
    tokens = headers.get("x-ratelimit-remaining-tokens")
    if requests is None and tokens is None:
        requests, unit = headers.get("x-ratelimit-remaining"), ""
        if requests is None:
            return None
    return RateLimits(
        requests=_count(requests),
        requests_reset_s=reset_s(headers.get(f"x-ratelimit-reset{unit}", ""), now),
        tokens=_count(tokens),
        tokens_reset_s=reset_s(headers.get("x-ratelimit-reset-tokens", ""), now),
    )


def _number(value: str) -> float | None:
    value = value.strip()
    return float(value) if _NUMBER.fullmatch(value) else None


def _count(value: str | None) -> int | None:
    number = None if value is None else _number(value)
    return None if number is None else int(number)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_S)
