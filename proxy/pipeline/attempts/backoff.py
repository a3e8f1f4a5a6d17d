"""The delay before a retry: exponential backoff with full jitter, or what the provider asks for."""

import random

MAX_DELAY_S = 10
"""The longest delay. If a provider asks for a longer one, it is not called again for this request.

Google's client libraries and OpenAI's SDKs wait for at most 8 to 60 seconds.
"""


def delay_s(base_ms: int, retries: int, retry_after_s: float | None) -> float | None:
    """Return the seconds to wait before a retry; None if the provider asks for more than MAX_DELAY_S.

    `retries` is the number of earlier retries. Without jitter, all clients would call a recovering provider
    at the same moment (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
    """
    jitter_s = random.uniform(0, min(base_ms / 1000 * 2**retries, MAX_DELAY_S))
    if retry_after_s is None:
        return jitter_s
    return max(retry_after_s, jitter_s) if retry_after_s <= MAX_DELAY_S else None
