"""DNS resolvers of the HTTP client that calls providers."""

import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from projects.outbound import validate_ip


class Resolver(aiohttp.ThreadedResolver):
    """Resolver that reports a name which Python cannot encode as one that does not exist.

    Such a name has an empty label, or one that is too long.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises OSError if there are none."""
        try:
            return await super().resolve(host, port, family)
        except UnicodeError as error:
            raise socket.gaierror(socket.EAI_NONAME, "the name cannot be resolved") from error


class SSRFSafeResolver(AbstractResolver):
    """Resolver for base URLs that tenants chose.

    It validates the very addresses that the client then connects to, so a name cannot change in between.
    """

    def __init__(self) -> None:
        self.inner = Resolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises BlockedURL for one in the operator's network."""
        found = await self.inner.resolve(host, port, family)
        for result in found:
            validate_ip(host, result["host"])
        return found

    async def close(self) -> None:
        """Release the inner resolver."""
        await self.inner.close()
