"""The audit finds what is wrong in Redis beside the database."""

from collections.abc import AsyncIterator

import pytest
from asgiref.sync import sync_to_async

from billing.ledger.redis import RedisLedger, reader
from billing.ledger.redis.scripts import PROJECTS, alive, prefix
from billing.models import Period, UsageRecord
from billing.tasks import roll_up_usage
from keys.models import ApiKey
from projects.models import User
from tests.environment import ON_SERVERS
from tests.ledgers import PRICE, Books, books_on, budget, demand, settle
from tests.pages_fixtures import key_of_another
from tests.test_audit import impatient, tell

__all__ = ["impatient"]

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]
needs_redis = pytest.mark.skipif(not ON_SERVERS, reason="needs Redis and PostgreSQL")


@pytest.fixture
async def in_redis(transactional_db: None) -> AsyncIterator[Books]:
    books = books_on("redis")
    yield books
    await books.close()


@needs_redis
async def test_what_a_dead_process_holds_is_found_also_where_its_age_is_not_known(in_redis: Books, key: ApiKey) -> None:
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    wanted = demand(key, await budget(key, 10))
    await ledger.reserve(wanted)
    await in_redis.forget()
    await ledger.upkeep.beat()
    (text,) = await sync_to_async(reader.client().hvals)(f"{prefix(key.project_id)}open")
    assert text.split(b" ")[4] == b"0"
    assert await tell() == []
    await in_redis.kill(ledger)
    assert not await sync_to_async(reader.client().exists)(alive(ledger.process))
    assert await tell() == [f"I4: request {wanted.id} of a dead process: still held: expected 0, found {PRICE}"]


@needs_redis
async def test_a_project_that_redis_has_struck_off_its_list_is_found_and_drained_again(in_redis: Books, key: ApiKey) -> None:
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    day = await budget(key, 10)
    for _ in range(2):
        wanted = demand(key, day)
        await settle(ledger, wanted, await ledger.reserve(wanted), cost=PRICE)
        await in_redis.written()
        reader.client().srem(PROJECTS, key.project_id)
    assert await UsageRecord.objects.acount() == 1
    missing = f"I4: project {key.project_id}: among those whose records are taken to the database: expected 1, found 0"
    assert [text for text in await tell() if text.startswith("I")] == [missing]
    await ledger.upkeep.register()
    await in_redis.written()
    await sync_to_async(roll_up_usage)()
    assert await UsageRecord.objects.acount() == 2
    assert await tell() == []


@needs_redis
async def test_a_window_that_no_list_in_redis_has_is_found(in_redis: Books, key: ApiKey) -> None:
    ledger = await in_redis.start()
    total = await budget(key, 10, Period.TOTAL)
    await ledger.reserve(demand(key, total))
    assert await tell() == []
    reader.client().hdel(f"{prefix(key.project_id)}state", f"w:k{key.pk}")
    assert await tell() == [f"I5: budget {total.id}, window total: in the list of open windows: expected 1, found 0"]


@needs_redis
@pytest.mark.parametrize(("field", "shown"), [("spent", "b'abc' and b'0'"), ("reserved", f"b'{PRICE}' and b'abc'")])
async def test_an_amount_in_redis_that_is_no_number_is_a_difference(in_redis: Books, key: ApiKey, field: str, shown: str) -> None:
    ledger = await in_redis.start()
    day, total = await budget(key, 10), await budget(key, 10, Period.TOTAL)
    wanted = demand(key, day, total)
    await settle(ledger, wanted, await ledger.reserve(wanted), cost=PRICE)
    await in_redis.written()
    await sync_to_async(roll_up_usage)()
    reader.client().hset(f"{prefix(key.project_id)}w:{day.id}/2026-11-20", field, "abc")
    reader.client().hset(f"{prefix(key.project_id)}w:{total.id}/total", "spent", 7)
    assert await tell() == [
        f"I5: budget {day.id}, window 2026-11-20: spent and reserved: expected whole numbers, found {shown}",
        f"I5: budget {total.id}, window total: spent: expected {PRICE}, found 7",
    ]


@needs_redis
async def test_a_project_that_redis_tells_nonsense_of_does_not_hide_the_others(in_redis: Books, key: ApiKey, charlie: User) -> None:
    other = await sync_to_async(key_of_another)(charlie)
    ledger = await in_redis.start()
    day, others = await budget(key, 10), await budget(other, 10)
    for one, terms in ((key, day), (other, others)):
        await ledger.reserve(demand(one, terms))
    reader.client().set(f"{prefix(key.project_id)}open", "nonsense")
    reader.client().hset(f"{prefix(other.project_id)}w:{others.id}/2026-11-20", "spent", 7)
    broken, spent = await tell()
    assert broken.startswith(f"unread: project {key.project_id}: expected books that can be read, found LedgerUnavailable: ")
    assert spent == f"I5: budget {others.id}, window 2026-11-20: spent: expected 0, found 7"
