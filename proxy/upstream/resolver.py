"""DNS resolvers of the HTTP client. They adapt the SSRF guard to aiohttp."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from projects import outbound


class UncheckedResolver(AbstractResolver):
    """Resolves hosts of URLs that the operator configured, without a check."""

    lookup = staticmethod(outbound.resolve)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises OSError."""
        return [
            ResolveResult(
                hostname=host,
                host=address.ip,
                port=port,
                family=address.family,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await self.lookup(host, family)
        ]

    async def close(self) -> None:
        """Do nothing: the resolver holds no resources."""


class SSRFSafeResolver(UncheckedResolver):
    """Resolves hosts of tenants' base URLs, and returns only checked addresses. aiohttp connects to these."""

    lookup = staticmethod(outbound.resolve_public)
