"""DNS resolvers of the HTTP client that calls providers: adapters of the SSRF guard to aiohttp."""

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from projects import outbound


class UncheckedResolver(AbstractResolver):
    """Resolves the hosts that the operator configured."""

    lookup = staticmethod(outbound.resolve)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raises OSError, and BlockedURL for a tenant's private host."""
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
    """Resolves the hosts of tenants' base URLs. aiohttp connects to the addresses that were checked."""

    lookup = staticmethod(outbound.resolve_public)
