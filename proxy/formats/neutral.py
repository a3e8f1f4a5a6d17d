"""What all wire formats have in common. Nothing here knows Django, HTTP clients or another app."""

import msgspec


class BadRequest(Exception):
    """The client's body cannot be read; the message says where, in words for the client. `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class Usage(msgspec.Struct, frozen=True):
    """Tokens in disjoint buckets, whatever way a vendor nests its counts. `reasoning` is part of `output`."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0


class Failure(msgspec.Struct, frozen=True):
    """An error of the gateway's own. `kind` is one of unknown_model, auth, rate_limit, timeout, invalid_request,
    server_error, network; `code` is the word that the OpenAI API has for it."""

    kind: str
    code: str
    message: str
    param: str | None = None


class Call(msgspec.Struct, frozen=True):
    """What the gateway must know of a request to admit and relay it, whatever its format.

    `input_bound`: tokens that the input cannot pass. `output_limit`: tokens that the client allowed in all its choices;
    None where it set no limit. `choices`: how many answers it asked for.
    """

    model: str
    input_bound: int
    output_limit: int | None = None
    choices: int = 1
    stream: bool = False
