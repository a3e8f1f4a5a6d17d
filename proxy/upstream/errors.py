"""Failures of calls to providers."""


class UpstreamError(Exception):
    """A call to a provider failed.

    `may_be_billed` is true if a part of the request reached the provider, which may bill it. `is_transient`
    is true if the same call may succeed.
    """

    def __init__(self, message: str, *, may_be_billed: bool = True, is_transient: bool = True) -> None:
        super().__init__(message)
        self.may_be_billed, self.is_transient = may_be_billed, is_transient


class UpstreamConnectionError(UpstreamError):
    """The provider could not be reached, or the connection broke."""


class UpstreamTimeout(UpstreamError):
    """The provider accepted no connection in time, or sent nothing for too long."""
