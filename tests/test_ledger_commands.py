"""What operators do to the books with commands leaves them right, on every store."""

from datetime import timedelta
from io import StringIO

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from billing.ledger import Ledger
from billing.ledger.audit import differences
from billing.ledger.inspection import redis_state, sql_state
from billing.ledger.redis import reader
from billing.ledger.redis.scripts import prefix
from billing.models import Budget, PriceOverride, UsageRecord
from billing.prices import Tokens, bundled
from billing.tasks import roll_up_usage
from keys.models import ApiKey
from tests.environment import ON_SERVERS
from tests.ledgers import TODAY, Books, budget, demand, recorded, settle

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]

USED = Tokens(input=1000, output=100)
PRICE_OF_MODEL = bundled("openai", "gpt-4o-mini")


@pytest.fixture
async def ledger(books: Books) -> Ledger:
    return await books.start()


async def charge(ledger: Ledger, key: ApiKey, *budgets: object) -> None:
    """A request to a model with a price."""
    assert PRICE_OF_MODEL is not None
    cost = PRICE_OF_MODEL.cost(USED)
    wanted = demand(key, *budgets, at_least=cost, at_most=cost)  # type: ignore[arg-type]
    wanted.draft.provider, wanted.draft.model_served, wanted.draft.price, wanted.draft.tokens = (
        "openai",
        "gpt-4o-mini",
        PRICE_OF_MODEL,
        USED,
    )
    await settle(ledger, wanted, await ledger.reserve(wanted), cost)


async def look() -> list[str]:
    def found() -> list[str]:
        roll_up_usage()
        states = redis_state() if settings.ENV.redis_url else sql_state(served=True)
        return [str(difference).partition(":")[0] for state in states for difference in differences(state)]

    return await sync_to_async(found)()


async def test_after_new_prices_the_counters_are_still_the_sums_of_the_records(books: Books, ledger: Ledger, key: ApiKey) -> None:
    day, total = await budget(key, 10**6), await budget(key, 10**6, whole_project=True)
    for _ in range(3):
        await charge(ledger, key, day, total)
    await books.written()
    override = {"model": "gpt-4o-mini", "input_nano": 10**9, "output_nano": 10**9, "effective_from": timezone.now() - timedelta(days=900)}
    await PriceOverride.objects.acreate(project_id=key.project_id, **override)
    for _ in range(2):
        out = StringIO()
        await sync_to_async(call_command)("reprice", "--since", "2026-11-01", stdout=out)
        await books.written()
    assert "0 of 3" in out.getvalue()
    assert await recorded() == 3 * 1100 * 1000
    assert await books.taken(day, TODAY) == await books.taken(total, TODAY) == (await recorded(), 0)
    assert await UsageRecord.objects.exclude(corrects=None).acount() == 3
    assert await look() == []


async def test_the_audit_finds_nothing_while_requests_are_under_way_and_records_on_theirs(
    books: Books, ledger: Ledger, key: ApiKey
) -> None:
    terms = await budget(key, 10**6)
    for _ in range(5):
        await charge(ledger, key, terms)
    await ledger.reserve(demand(key, terms))
    assert await look() == []


@pytest.mark.skipif(not ON_SERVERS, reason="needs Redis")
@pytest.mark.parametrize("books", ["redis"], indirect=True)
async def test_the_audit_finds_what_is_wrong_in_redis(books: Books, ledger: Ledger, key: ApiKey) -> None:
    terms = await budget(key, 1000)
    await charge(ledger, key)
    await Budget.objects.all().aupdate(changed_at=timezone.now() - timedelta(days=400))
    held = await ledger.reserve(demand(key, terms))
    store, keys = reader.client(), prefix(key.project_id)
    window = f"{keys}w:{terms.id}/{TODAY.isoformat()}"
    assert await look() == []
    store.hincrby(window, "spent", 7)
    assert await look() == ["I5"]
    store.hincrby(window, "spent", 10**9)
    assert await look() == ["I5", "I1"]
    store.hincrby(window, "spent", -7 - 10**9)
    store.hdel(f"{keys}open", held.id.hex)
    assert await look() == ["I2"]
