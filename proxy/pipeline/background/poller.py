"""Poll providers for the results of background responses, until their records are written.

Only the process that holds the ledger's lease polls. Each poll is also claimed in the database. If two
processes both assume that they hold the lease, they therefore do not make the same poll.
"""

import asyncio
from collections import Counter

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
"""Seconds between queries for responses that are due."""
POLL_TIMEOUT_S = 30
MAX_CONCURRENT = 50
MAX_CONCURRENT_PER_PROJECT = 20
"""Maximum number of polls at the same time for one project.

If the provider of one project hangs, the polls of other projects are not delayed.
"""
MISSING_STATUSES = (404, 410)

log = structlog.get_logger()


class PollFailed(Exception):
    """A response could not be fetched. `is_missing`: the provider reports that it does not exist."""

    def __init__(self, reason: str, *, is_missing: bool = False) -> None:
        super().__init__(reason)
        self.is_missing = is_missing


class Poller:
    """Polls responses of all projects, several at the same time."""

    def __init__(self) -> None:
        self.polls: dict[asyncio.Task[None], int] = {}
        """The polls in progress, each with its project."""

    async def run(self) -> None:
        """Poll while the process serves. Log only the first of several consecutive failures."""
        is_failing = False
        try:
            while True:
                await asyncio.sleep(POLL_INTERVAL_S)
                failure = await self.start_due_or_fail()
                if failure is not None and not is_failing:
                    log.warning(
                        "background_polls_delayed",
                        message="Background responses cannot be polled now. The gateway tries again.",
                        reason=f"{type(failure).__name__}: {failure}",
                    )
                is_failing = failure is not None
        finally:
            for poll_task in self.polls:
                poll_task.cancel()
            await asyncio.gather(*self.polls, return_exceptions=True)

    async def start_due_or_fail(self) -> Exception | None:
        """Start the polls that are due if this process holds the lease. Return the reason if that failed."""
        try:
            if await ledger.current().acquire_lease():
                await self.start_due()
        except Exception as error:
            return error
        return None

    async def start_due(self) -> None:
        """Start as many of the polls that are due as the limits allow."""
        by_project = Counter(self.polls.values())
        busy = [id for id, polls in by_project.items() if polls >= MAX_CONCURRENT_PER_PROJECT]
        room = MAX_CONCURRENT - len(self.polls)
        for background in await run_query(BackgroundResponse.objects.due, room, busy) if room else ():
            project_id = background.project_id
            if by_project[project_id] < MAX_CONCURRENT_PER_PROJECT and await run_query(background.claim_poll):
                by_project[project_id] += 1
                self.start(background)

    def start(self, background: BackgroundResponse) -> None:
        """Start the poll of one response."""
        poll_task = asyncio.create_task(poll_or_log(background))
        self.polls[poll_task] = background.project_id
        poll_task.add_done_callback(self.polls.pop)


async def poll_or_log(background: BackgroundResponse) -> None:
    """Poll one response. Log an exception in the gateway."""
    try:
        await poll(background)
    except Exception as error:
        log.error(
            "background_poll_failed",
            message="A background response could not be settled. It is polled again.",
            response_id=background.response_id,
            exc_info=error,
        )


async def poll(background: BackgroundResponse) -> None:
    """Fetch a response. Settle it if it has ended, or if its result cannot be expected any more."""
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
    """Return the account of a response, even if its project may no longer use it. Raises PollFailed."""
    own = await project_accounts_cache.get(background.project_id)
    by_digest = accounts_by_digest((*own, *load_operator_accounts()), background.response_id)
    if background.digest not in by_digest:
        raise PollFailed("the account of the response is no longer configured")
    model = decode_entry(background.entry).requested_model
    return best_match(by_digest[background.digest], background.account, model)


async def store_ids(background: BackgroundResponse, account: Account, body: bytes) -> None:
    """Store the ids of the items of a response that has ended, because later requests may name them."""
    entry, reader = decode_entry(background.entry), ResponsesIdReader(can_be_named=True)
    recorder = Recorder(entry.project_id, entry.request_id, account, reader, entry.requested_model)
    await recorder.read_response(body)
