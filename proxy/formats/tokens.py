"""Our own count of output tokens, for streams that end before the provider has stated its."""

TOKEN_BYTES = 4
LONE_TOKEN_BYTES = 16


def tokens_in_size(size: int) -> int:
    """Providers send one token a chunk; in more text than a token has, about four bytes are one."""
    if size <= LONE_TOKEN_BYTES:
        return 1 if size else 0
    return -(-size // TOKEN_BYTES)


def tokens_in_text(text: str) -> int:
    return tokens_in_size(len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass")))
