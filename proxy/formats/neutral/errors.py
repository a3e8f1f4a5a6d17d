"""Exceptions of codecs."""


class InvalidRequest(Exception):
    """The client's body is not valid. The message is for the client, and `param` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedFeature(InvalidRequest):
    """The request is valid, but the target's format does not support its content or tools.

    The status is 400.
    """


class InvalidUpstreamResponse(Exception):
    """The provider's response cannot be parsed. The message is for the client."""
