"""Limit on requests of the REST API per minute (GATEWAY_API_RPM), for each caller and each address."""

import time

from django.conf import settings
from django.core.cache import cache
from redis import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from gateway_project.dashboard.audit import address_of
from keys.auth_throttle import client_network

WINDOW_S = 60
ADDRESS_FACTOR = 5
"""An address has this multiple of a caller's limit, because several callers may share an address."""


class ApiThrottle(BaseThrottle):
    """Counts requests in fixed windows of a minute, in the cache that all processes share."""

    def allow_request(self, request: Request, view: APIView) -> bool:
        """Count the request. Return whether the caller and the address are both within their limits."""
        limit = settings.ENV.gateway_api_rpm
        if not limit:
            return True
        network = client_network(address_of(request))
        if count(f"address-{network}") > ADDRESS_FACTOR * limit:
            return False
        return request.auth is None or count(request.auth.throttle_id) <= limit

    def wait(self) -> float:
        """Return the seconds until the next window."""
        return WINDOW_S - time.time() % WINDOW_S


def current_window() -> int:
    return int(time.time() // WINDOW_S)


def count(ident: str) -> int:
    """Count a request, and return the number of requests in this window.

    While Redis is down, requests are not limited, but they still need authentication.
    """
    key = f"api-throttle-{ident}-{current_window()}"
    try:
        cache.add(key, 0, 2 * WINDOW_S)
        return cache.incr(key)
    except (RedisError, ValueError):
        return 0
