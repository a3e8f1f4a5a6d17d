"""Poll providers for the results of background responses, until their records are written.

The process that holds the ledger's lease polls. Polls are claimed in the database as well, so two processes
that believe to hold the lease do not make the same poll.
"""

import asyncio

import structlog
from django.utils import timezone

from billing import ledger
from billing.ledger.usage_entry import decode_entry
from projects.db.executor import run_query
from projects.outbound import BlockedURL
from proxy.formats.openai_responses import FORMAT
from proxy.formats.openai_responses.account_ids import ResponsesIdReader
from proxy.formats.openai_responses.background import ResponseState, read_state, response_path
from proxy.models import BackgroundResponse
from proxy.pipeline.account_ids import Recorder, accounts_by_digest, best_match
from proxy.pipeline.background.settlement import (
    EXPIRED,
    LOST,
    MAX_AGE,
    MISSING_AFTER,
    settle_estimate,
    settle_result,
)
from proxy.routing.accounts import Account, load_operator_accounts, project_accounts_cache
from proxy.routing.calls import call, read_body
from proxy.routing.targets import UpstreamRequest
from proxy.upstream.errors import UpstreamError

POLL_INTERVAL_S = 1
"""Seconds between looks for responses that are due."""
POLL_TIMEOUT_S = 30
BATCH_SIZE = 50
"""Responses that are polled at the same time."""
MISSING_STATUSES = (404, 410)

log = structlog.get_logger()


class PollFailed(Exception):
    """A response could not be fetched. `is_missing`: the provider says that it does not exist."""

    def __init__(self, reason: str, *, is_missing: bool = False) -> None:
        super().__init__(reason)
        self.is_missing = is_missing


async def poll_background_responses() -> None:
    """Poll for as long as the process serves. Log the first failure of a streak."""
    is_failing = False
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)
        try:
            if await ledger.current().acquire_lease():
                await poll_due()
            is_failing = False
        except Exception as error:
            if not is_failing:
                log.warning(
                    "background_polls_delayed",
                    message="Background responses cannot be polled now. This is tried again.",
                    reason=f"{type(error).__name__}: {error}",
                )
            is_failing = True


async def poll_due() -> None:
    """Poll the responses that are due. A failure of one does not affect the others."""
    due = await run_query(BackgroundResponse.objects.claim_due, BATCH_SIZE)
    for result in await asyncio.gather(*map(poll, due), return_exceptions=True):
        if isinstance(result, Exception):
            log.error(
                "background_poll_failed",
                message="A background response could not be settled. It is polled again.",
                exc_info=result,
            )


async def poll(background: BackgroundResponse) -> None:
    """Fetch a response, and settle it if it has ended or its result cannot be expected any more."""
    age = timezone.now() - background.created_at
    try:
        state = await fetch(background)
    except PollFailed as failure:
        if failure.is_missing and age > MISSING_AFTER:
            await settle_estimate(background, LOST, str(failure))
        elif age > MAX_AGE:
            await settle_estimate(background, EXPIRED, str(failure))
        return
    if not state.is_pending:
        await settle_result(background, state)
    elif age > MAX_AGE:
        await settle_estimate(background, EXPIRED, f"it is still {state.status}")


async def fetch(background: BackgroundResponse) -> ResponseState:
    """Return the state of a response, and store the ids that it issues. Raises PollFailed."""
    account = await account_of(background)
    upstream = UpstreamRequest(response_path(background.response_id), b"", method="GET")
    try:
        async with asyncio.timeout(POLL_TIMEOUT_S):
            response = await call(account, FORMAT, upstream)
            body = await read_body(response)
    except (UpstreamError, BlockedURL, TimeoutError) as error:
        raise PollFailed(f"{type(error).__name__}: {error}") from error
    if response.status >= 400:
        is_missing = response.status in MISSING_STATUSES
        raise PollFailed(f"the provider responded with status {response.status}", is_missing=is_missing)
    if (state := read_state(body)) is None:
        raise PollFailed("the provider's response cannot be read")
    if not state.is_pending:
        await store_ids(background, account, body)
    return state


async def account_of(background: BackgroundResponse) -> Account:
    """Return the account of a response, even if its project may not use it any more. Raises PollFailed."""
    own = await project_accounts_cache.get(background.project_id)
    by_digest = accounts_by_digest((*own, *load_operator_accounts()), background.response_id)
    if background.digest not in by_digest:
        raise PollFailed("the account of the response is no longer configured")
    model = decode_entry(background.entry).requested_model
    return best_match(by_digest[background.digest], background.account, model)


async def store_ids(background: BackgroundResponse, account: Account, body: bytes) -> None:
    """Store the ids of the items of a response that has ended, which a later request may name."""
    entry, reader = decode_entry(background.entry), ResponsesIdReader(can_be_named=True)
    recorder = Recorder(entry.project_id, entry.request_id, account, reader, entry.requested_model)
    await recorder.read_response(body)
