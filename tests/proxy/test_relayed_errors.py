"""Delays that providers state in the headers of errors."""

import time
from email.utils import formatdate

import pytest

from proxy.formats.neutral import ApiError
from proxy.relayed_errors import retry_delay_s

ERROR = ApiError(
    kind="rate_limit", code="rate_limit_exceeded", message="Slow down.", status=429, retry_after_s=9
)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "2", "retry-after-ms": "300"}, 2),
        ({"retry-after-ms": "300"}, 0.3),
        ({"retry-after": formatdate(0, usegmt=True)}, 0),
        ({"retry-after": "Wed, 99 Nov 2026 99:00:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({}, 9),
    ],
)
def test_the_delay_is_in_seconds(headers: dict[str, str], expected: float | None) -> None:
    assert retry_delay_s(ERROR, headers) == expected


def test_a_date_is_a_delay() -> None:
    delay = retry_delay_s(ERROR, {"retry-after": formatdate(time.time() + 100, usegmt=True)})
    assert delay is not None and 80 < delay <= 100
