"""Measure a reservation and its settlement on the store that the environment names.

`tests.bench` runs this module.
"""

import asyncio
import json
import resource
import statistics
import sys
import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import django

django.setup()

from django.core.management import call_command

from billing.budgets.limits import SpendPolicy, load_spend_policy
from billing.ledger import Ledger, ReserveRequest, UsageEntry
from billing.models import Budget, Period
from gateway_project.lifespan import open_ledger
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project

CONNECTIONS = 32
PRICE = 1_000


def create_key() -> tuple[ApiKey, SpendPolicy]:
    """Create a key with a rate limit, a daily and a monthly budget."""
    call_command("migrate", verbosity=0)
    key = ApiKey.objects.issue(Project.objects.create_with_owner("Bench"), "bench", rpm_limit=10**8)[0]
    for period in (Period.DAY, Period.MONTH):
        Budget.objects.create(project=key.project, key=key, period=period, limit_nano=10**15)
    return key, load_spend_policy(key.pk)


def reserve_request(key: ApiKey, policy: SpendPolicy) -> ReserveRequest:
    now = datetime.now(UTC)
    entry = UsageEntry(
        id=uuid7(), project_id=key.project_id, key_id=key.pk, day=now.date(), created_at=now,
        request_id="bench", operation="chat", format="openai", cost_nano=PRICE,
    )  # fmt: skip
    return ReserveRequest(
        entry.id,
        key.project_id,
        key.pk,
        ZoneInfo("UTC"),
        PRICE,
        PRICE,
        policy.budgets,
        policy.rate_limits,
        100,
        entry,
    )


async def run_pairs(ledger: Ledger, key: ApiKey, policy: SpendPolicy, count: int) -> list[float]:
    """Reserve and settle requests one after the other. Return the duration of each pair, in seconds."""
    durations = []
    for _ in range(count):
        request = reserve_request(key, policy)
        started = time.perf_counter()
        reservation = await ledger.reserve(request)
        await ledger.settle(reservation, request.estimate)
        durations.append(time.perf_counter() - started)
    return durations


async def measure(key: ApiKey, policy: SpendPolicy, count: int) -> dict[str, float]:
    """Return the CPU time of a pair under load, and the latencies of pairs one after the other."""
    ledger = open_ledger()
    await ledger.start()
    unloaded = await run_pairs(ledger, key, policy, count // 20)
    before = resource.getrusage(resource.RUSAGE_SELF)
    await asyncio.gather(*(run_pairs(ledger, key, policy, count // CONNECTIONS) for _ in range(CONNECTIONS)))
    after = resource.getrusage(resource.RUSAGE_SELF)
    await ledger.stop()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "cpu": cpu / count * 1e6,
        "p50": statistics.median(unloaded) * 1e6,
        "p99": statistics.quantiles(unloaded, n=100)[98] * 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(*create_key(), int(sys.argv[1])))))
