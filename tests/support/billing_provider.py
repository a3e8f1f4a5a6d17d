"""Provider that bills as much as a request allows, with the same price list as the gateway.

It bills the tier and the region that the request names, or the most expensive ones that it may choose, the
longest allowed output, and calls of server tools. A tier without rates in the price list costs a multiple.
"""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from billing.pricing import bundled_price
from tests.support.billing_vendors import vendor_of

Json = dict[str, Any]


@dataclass
class BillingProvider:
    """Handler of a local upstream. `bills` are the costs in nano-USD, in the order of the requests."""

    bills: list[int] = field(default_factory=list)

    async def respond(self, request: web.Request, body: Json) -> web.StreamResponse:
        if request.path.endswith(("/count_tokens", ":countTokens")):
            return web.json_response({"input_tokens": 10, "totalTokens": 10})
        vendor = vendor_of(request.path)
        job = vendor.read(request, body)
        price = bundled_price(vendor.prices, job.model)
        assert price is not None, job.model
        self.bills.append(job.cost_nano(price))
        if not job.streams:
            return web.json_response(vendor.complete(job), headers=vendor.headers(job))
        headers = {"content-type": "text/event-stream", **vendor.headers(job)}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(b"".join(vendor.stream(job)))
        return response
