"""Provider that bills as much as a request allows (`bill.py`).

It bills the tier and the region that the request names, or the most expensive ones that it may choose, the
longest allowed output, cache writes, and calls of server tools. Half of its responses leave out what the
request has stated itself. A tier without rates in the price list costs a multiple of the standard price.
"""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.bill import bill_nano
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
        job.omits = zlib.crc32(json.dumps(body).encode()) % 2 == 0
        self.bills.append(bill_nano(vendor.prices, job))
        if not job.streams:
            return web.json_response(vendor.complete(job), headers=vendor.headers(job))
        headers = {"content-type": "text/event-stream", **vendor.headers(job)}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(b"".join(vendor.stream(job)))
        return response
