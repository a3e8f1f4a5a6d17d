"""Gateway for tests: the real server in a thread, with a real socket and the test database."""

import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from django.conf import settings

from billing import ledger
from billing.ledger.redis import RedisLedger, queries
from billing.models import Reservation, UsageRecord
from gateway_project import server
from gateway_project.celery import app as celery
from keys.models import ApiKey
from projects.models import Project
from proxy.pipeline.authenticate import in_flight
from proxy.routing import accounts
from tests.support.upstream_server import LocalUpstream, completion


class LiveGateway:
    """A server with two sockets. A test may use the second one as GATEWAY_ADMIN_PORT."""

    def __init__(self) -> None:
        self.socket, self.admin_socket = (server.bind("127.0.0.1", 0) for _ in range(2))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.admin_port = int(self.admin_socket.getsockname()[1])
        self.server = server.build()
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.socket, self.admin_socket]}, daemon=True
        )

    def start(self) -> None:
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert self.thread.is_alive() and time.monotonic() < deadline, "the gateway did not start"
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture(scope="session")
def local_upstream() -> Iterator[LocalUpstream]:
    upstream = LocalUpstream().start()
    yield upstream
    upstream.stop()


@pytest.fixture(scope="session")
def live_gateway(
    django_db_setup: None, django_db_blocker: pytest.FixtureRequest, local_upstream: LocalUpstream
) -> Iterator[LiveGateway]:
    """Run one server for all tests, without a schedule.

    Its operator has an OpenAI account at the local upstream.
    """
    celery.conf.beat_schedule = {}
    settings.ENV = settings.ENV.model_copy(
        update={"openai_api_key": "sk-operator", "openai_base_url": local_upstream.url}
    )
    accounts.load_operator_accounts.cache_clear()
    gateway = LiveGateway()
    with django_db_blocker.unblock():  # type: ignore[attr-defined]
        gateway.start()
        if isinstance(current := ledger.current(), RedisLedger):
            # Ledger tests with another Redis share the PostgreSQL. This process would send their unsent
            # records to its own Redis.
            current.reaper.settle_unsent = do_nothing  # type: ignore[method-assign]
        yield gateway
        gateway.stop()


async def do_nothing(**_: object) -> None:
    pass


@pytest.fixture
def upstream(local_upstream: LocalUpstream) -> LocalUpstream:
    local_upstream.requests.clear()
    local_upstream.handler = completion
    return local_upstream


@pytest.fixture
def demo_project(transactional_db: None) -> Project:
    """The project that may use the operator's credentials."""
    return Project.objects.create_with_owner("Demo", slug="demo", uses_operator_credentials=True)


@pytest.fixture
def token(demo_project: Project) -> str:
    return ApiKey.objects.issue(demo_project, "tests")[1]


@pytest.fixture
def gateway(live_gateway: LiveGateway, upstream: LocalUpstream, token: str) -> Iterator[httpx.Client]:
    """HTTP client of the running gateway, with a key of the demo project."""
    with httpx.Client(
        base_url=live_gateway.url, headers={"authorization": f"Bearer {token}"}, timeout=20
    ) as client:
        yield client


@pytest.fixture(autouse=True)
def wait_for_records(request: pytest.FixtureRequest) -> Iterator[None]:
    """Wait until the records of a test are written, because its tables are emptied afterwards."""
    if "live_gateway" in request.fixturenames:
        request.getfixturevalue("transactional_db")
        yield
        wait_until(lambda: not in_flight)
        wait_until(
            lambda: (
                not any(next(queries.undrained_records(project_id), None) for project_id in known_projects())
            )
        )
    else:
        yield


def known_projects() -> list[int]:
    """Return the ids of the projects that have reservations or records in Redis."""
    return queries.project_ids() if settings.ENV.redis_url else []


def open_reservation_count() -> int:
    """Return the number of open reservations in SQL and in Redis."""
    return Reservation.objects.count() + sum(
        len(queries.reservations(project_id)) for project_id in known_projects()
    )


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not done():
        assert time.monotonic() < deadline, (
            f"{UsageRecord.objects.count()} records, {open_reservation_count()} reservations"
        )
        time.sleep(0.01)


def only_record(count: int = 1) -> UsageRecord:
    """Wait until there are `count` records and no open reservation; return the newest record."""
    wait_until(lambda: UsageRecord.objects.count() >= count and not open_reservation_count())
    assert UsageRecord.objects.count() == count
    return UsageRecord.objects.newest(1)[0]
