"""What servers write into headers is read, or ignored, and never believed beyond reason."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapir.oracles.headers import LONGEST_S, rate_limits, reset_s, retry_after_s

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("2.5", 2.5),
        (" 7 ", 7.0),
        ("99999999999", LONGEST_S),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("-3", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s({"Retry-After": value}, NOW) == seconds


def test_milliseconds_come_before_seconds() -> None:
    assert retry_after_s({"retry-after-ms": "1500", "Retry-After": "60"}, NOW) == 1.5
    assert retry_after_s({"retry-after-ms": "?", "Retry-After": "60"}, NOW) == 60
    assert retry_after_s({}, NOW) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400.0),
        ("12", 12.0),
        ("1800000030", 30.0),
        ("1800000030500", 30.5),
        ("2027-01-15T08:00:30Z", 30.0),
        ("0s", 0.0),
        ("s", None),
        ("1x", None),
        ("", None),
    ],
)
def test_resets_are_durations_or_times(value: str, seconds: float | None) -> None:
    found = reset_s(value, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_rate_limits_are_none_without_their_headers() -> None:
    assert rate_limits({"content-type": "x"}, NOW) is None
    limits = rate_limits({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2s"}, NOW)
    assert limits is not None
    assert (limits.requests, limits.requests_reset_s, limits.tokens, limits.tokens_reset_s) == (0, 2.0, None, None)


def test_rate_limits_without_a_unit_count_requests() -> None:
    limits = rate_limits({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800000002000"}, NOW)
    assert limits is not None
    assert (limits.requests, limits.requests_reset_s, limits.tokens) == (0, 2.0, None)


@given(st.text(max_size=80), st.floats(0, 1e11))
def test_no_header_raises_or_leaves_the_bounds(value: str, now: float) -> None:
    for seconds in (retry_after_s({"Retry-After": value}, now), reset_s(value, now)):
        assert seconds is None or 0 <= seconds <= LONGEST_S


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_every_duration_reads_as_its_sum(hours: int, minutes: int, seconds: int, ms: int) -> None:
    expected = min(hours * 3600 + minutes * 60 + seconds + ms / 1000, LONGEST_S)
    assert reset_s(f"{hours}h{minutes}m{seconds}s{ms}ms", NOW) == pytest.approx(expected)
