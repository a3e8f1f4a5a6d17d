"""What operators do to the books with commands leaves them right, on every store."""

from datetime import timedelta
from io import StringIO

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from billing.ledger import Ledger
from billing.ledger.audit.checks import find_mismatches
from billing.ledger.audit.redis_snapshot import redis_snapshots
from billing.ledger.audit.sql_snapshot import sql_snapshots
from billing.ledger.redis.client.blocking_client import blocking_client
from billing.ledger.redis.client.keys import key_prefix
from billing.models import Budget, PriceOverride, UsageRecord
from billing.pricing import Tokens, bundled_price
from billing.tasks import roll_up_usage
from keys.models import ApiKey
from tests.support.environment import ON_SERVERS
from tests.support.ledger_harness import TODAY, LedgerHarness, budget, recorded_cost, reserve_request, settle

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]

USED = Tokens(input=1000, output=100)
PRICE_OF_MODEL = bundled_price("openai", "gpt-4o-mini")


@pytest.fixture
async def ledger(ledger_harness: LedgerHarness) -> Ledger:
    return await ledger_harness.start()


async def charge(ledger: Ledger, key: ApiKey, *budgets: object) -> None:
    """A request to a model with a price."""
    assert PRICE_OF_MODEL is not None
    cost = PRICE_OF_MODEL.cost(USED)
    wanted = reserve_request(key, *budgets, min_nano=cost, max_nano=cost)  # type: ignore[arg-type]
    (
        wanted.estimate.provider,
        wanted.estimate.provider_model,
        wanted.estimate.price,
        wanted.estimate.tokens,
    ) = (
        "openai",
        "gpt-4o-mini",
        PRICE_OF_MODEL,
        USED,
    )
    await settle(ledger, wanted, await ledger.reserve(wanted), cost)


async def audit_mismatches() -> list[str]:
    def found() -> list[str]:
        roll_up_usage()
        states = redis_snapshots() if settings.ENV.redis_url else sql_snapshots(is_served=True)
        return [
            str(difference).partition(":")[0] for state in states for difference in find_mismatches(state)
        ]

    return await sync_to_async(found)()


async def test_after_new_prices_the_counters_are_still_the_sums_of_the_records(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    day, total = await budget(key, 10**6), await budget(key, 10**6, whole_project=True)
    for _ in range(3):
        await charge(ledger, key, day, total)
    await ledger_harness.wait_until_written()
    override = {
        "model": "gpt-4o-mini",
        "input_nano": 10**9,
        "output_nano": 10**9,
        "effective_from": timezone.now() - timedelta(days=900),
    }
    await PriceOverride.objects.acreate(project_id=key.project_id, **override)
    for _ in range(2):
        out = StringIO()
        await sync_to_async(call_command)("reprice", "--since", "2026-11-01", stdout=out)
        await ledger_harness.wait_until_written()
    assert "0 of 3" in out.getvalue()
    assert await recorded_cost() == 3 * 1100 * 1000
    assert (
        await ledger_harness.window_total(day, TODAY)
        == await ledger_harness.window_total(total, TODAY)
        == (await recorded_cost(), 0)
    )
    assert await UsageRecord.objects.exclude(corrects=None).acount() == 3
    assert await audit_mismatches() == []


async def test_audit_finds_no_mismatch_during_traffic(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    terms = await budget(key, 10**6)
    for _ in range(5):
        await charge(ledger, key, terms)
    await ledger.reserve(reserve_request(key, terms))
    assert await audit_mismatches() == []


@pytest.mark.skipif(not ON_SERVERS, reason="needs Redis")
@pytest.mark.parametrize("ledger_harness", ["redis"], indirect=True)
async def test_the_audit_finds_what_is_wrong_in_redis(
    ledger_harness: LedgerHarness, ledger: Ledger, key: ApiKey
) -> None:
    terms = await budget(key, 1000)
    await charge(ledger, key)
    await Budget.objects.all().aupdate(changed_at=timezone.now() - timedelta(days=400))
    held = await ledger.reserve(reserve_request(key, terms))
    store, keys = blocking_client(), key_prefix(key.project_id)
    window = f"{keys}w:{terms.id}/{TODAY.isoformat()}"
    assert await audit_mismatches() == []
    store.hincrby(window, "spent", 7)
    assert await audit_mismatches() == ["I5"]
    store.hincrby(window, "spent", 10**9)
    assert await audit_mismatches() == ["I5", "I1"]
    store.hincrby(window, "spent", -7 - 10**9)
    store.hdel(f"{keys}open", held.id.hex)
    assert await audit_mismatches() == ["I2"]
