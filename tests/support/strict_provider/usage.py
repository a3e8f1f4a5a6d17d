"""Tokens of each turn of the scripted model."""

CACHED = 500
"""Input tokens that were read from the cache."""
INPUT = 1000 + CACHED
CACHE_WRITES = 100
"""Input tokens that Anthropic writes to its cache."""
TEXT = 40
REASONING = 30
