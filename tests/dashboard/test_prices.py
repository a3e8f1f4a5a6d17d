"""Pages of prices."""

import datetime as dt

import pytest
from django.urls import reverse
from django.utils import timezone

from billing.models import PriceOverride, UsageRecord
from keys.models import ApiKey
from projects.models import Project, User
from tests.support.factories import USD, record, signed_in


def listing(project: Project, user: User) -> str:
    return signed_in(user).get(reverse("price-list", args=[project.slug])).content.decode()


def submit(project: Project, user: User, **fields: str) -> tuple[int, str]:
    form = {"model": "llama-*", "input_nano": "0.15", "output_nano": "0.60", **fields}
    response = signed_in(user).post(reverse("price-new", args=[project.slug]), form)
    return response.status_code, response.content.decode()


def test_price_set_by_an_admin_applies_at_once(project: Project, alice: User) -> None:
    status, _ = submit(
        project,
        alice,
        provider="local",
        cache_read_nano="0.075",
        request_nano="0.001",
        tool_fees="web_search 0.01\nmaps=0.02\n",
    )
    assert status == 302
    price = PriceOverride.objects.get(project=project)
    assert (price.pattern, price.input_nano, price.output_nano, price.cache_read_nano) == (
        "local/llama-*",
        150_000_000,
        600_000_000,
        75_000_000,
    )
    assert (price.request_nano, price.tool_fees, price.cache_write_5m_nano) == (
        1_000_000,
        {"web_search": 10**7, "maps": 2 * 10**7},
        None,
    )
    assert price.effective_from <= timezone.now()
    page = listing(project, alice)
    assert "local/llama-*" in page and "$0.15 input, $0.60 output" in page and "$0.01 per web search" in page


def test_rate_of_a_12_hour_cache_is_twice_a_shorter_one_unless_set(project: Project, alice: User) -> None:
    for fields in ({}, {"cache_write_12h_nano": "4"}):
        assert submit(project, alice, cache_write_5m_nano="1.5", **fields)[0] == 302
    rates = [price.price().base.cache_write_12h_rate for price in PriceOverride.objects.order_by("pk")]
    assert rates == [3 * USD, 4 * USD]


def test_effective_date_uses_the_project_timezone(project: Project, alice: User) -> None:
    project.timezone = "Asia/Tokyo"
    project.save()
    assert submit(project, alice, effective_from="2027-01-01T00:00")[0] == 302
    assert PriceOverride.objects.get().effective_from == dt.datetime(2026, 12, 31, 15, tzinfo=dt.UTC)
    assert "planned" in listing(project, alice)


@pytest.mark.parametrize("moment", ["2026-10-25T02:30", "2026-03-29T02:30"])
def test_ambiguous_or_nonexistent_local_time_is_rejected(project: Project, alice: User, moment: str) -> None:
    project.timezone = "Europe/Berlin"
    project.save()
    status, page = submit(project, alice, effective_from=moment)
    assert status == 200 and "ambiguous" in page and not PriceOverride.objects.exists()


def test_price_on_a_clock_change_day_starts_at_local_time(project: Project, alice: User) -> None:
    project.timezone = "Europe/Berlin"
    project.save()
    for moment in ("2026-10-25T00:00", "2026-10-25T03:00"):
        assert submit(project, alice, effective_from=moment)[0] == 302
    begins = PriceOverride.objects.order_by("pk").values_list("effective_from", flat=True)
    assert list(begins) == [
        dt.datetime(2026, 10, 24, 22, tzinfo=dt.UTC),
        dt.datetime(2026, 10, 25, 2, tzinfo=dt.UTC),
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input_nano": "-1"}, "without + or -"),
        ({"input_nano": ""}, "required"),
        ({"output_nano": "1000001"}, "less than or equal"),
        ({"model": "a*b"}, "only allowed at the end"),
        ({"model": ""}, "required"),
        ({"tool_fees": "web_search"}, "after its name"),
        ({"tool_fees": "web-search 1"}, "not a valid tool kind"),
        ({"tool_fees": "web_search 2000000"}, "must be between"),
        ({"effective_from": "never"}, "valid date"),
        ({"effective_from": "9999-12-31T00:00"}, "Choose a date until"),
    ],
)
def test_invalid_prices_are_rejected_with_a_reason(
    project: Project, alice: User, fields: dict[str, str], words: str
) -> None:
    status, page = submit(project, alice, **fields)
    assert status == 200 and words in page and not PriceOverride.objects.exists()


def test_an_ended_price_stays_listed(project: Project, alice: User) -> None:
    submit(project, alice)
    price = PriceOverride.objects.get()
    address = reverse("price-end", args=[project.slug, price.pk])
    assert "End this price?" in signed_in(alice).get(address).content.decode()
    assert signed_in(alice).post(address).status_code == 302
    price.refresh_from_db()
    assert price.ended_at is not None and "ended" in listing(project, alice)
    assert signed_in(alice).post(address).status_code == 404


def test_members_see_prices_but_cannot_set_them(project: Project, bob: User) -> None:
    PriceOverride.objects.create(project=project, model="mine", input_nano=0, output_nano=0)
    page = listing(project, bob)
    assert "mine" in page and "Set a price" not in page and "/end/" not in page
    assert submit(project, bob)[0] == 403


def test_operator_prices_are_listed_but_cannot_be_ended(project: Project, alice: User) -> None:
    price = PriceOverride.objects.create(model="theirs", input_nano=0, output_nano=0)
    assert "theirs" in listing(project, alice)
    assert signed_in(alice).post(reverse("price-end", args=[project.slug, price.pk])).status_code == 404


def test_an_operator_sets_a_price_for_all_projects(project: Project, alice: User) -> None:
    alice.is_staff = alice.is_superuser = True
    alice.save()
    address = reverse("admin:billing_priceoverride_add")
    assert "Nano" not in signed_in(alice).get(address).content.decode()
    moment = {
        "effective_from_0": "2026-11-01",
        "effective_from_1": "00:00:00",
        "ended_at_0": "",
        "ended_at_1": "",
    }
    form = {
        "model": "llama-*",
        "input_nano": "0.15",
        "output_nano": "0.60",
        "tool_fees": "web_search 0.01",
        **moment,
    }
    assert signed_in(alice).post(address, form).status_code == 302
    price = PriceOverride.objects.get()
    assert (price.project, price.input_nano, price.tool_fees) == (None, 150_000_000, {"web_search": 10**7})
    change = reverse("admin:billing_priceoverride_change", args=[price.pk])
    assert "0.15" in signed_in(alice).get(change).content.decode()
    assert (
        signed_in(alice).post(change, form | {"project": str(project.pk), "input_nano": "0.2"}).status_code
        == 302
    )
    price.refresh_from_db()
    assert (price.project, price.input_nano) == (project, 200_000_000)


def test_prices_of_other_projects_are_hidden(project: Project, alice: User) -> None:
    other = Project.objects.create_with_owner("Another", owner=alice)
    PriceOverride.objects.create(project=other, model="secret-model", input_nano=0, output_nano=0)
    assert "secret-model" not in listing(project, alice)


def test_used_models_are_listed_with_their_current_price(project: Project, key: ApiKey, alice: User) -> None:
    record(key)
    UsageRecord.objects.filter(pk=record(key, model="gpt-5").pk).update(provider="openai")
    UsageRecord.objects.filter(pk=record(key, model="house").pk).update(provider="openai")
    page = listing(project, alice)
    assert "$1.25" in page and "genai-prices" in page and "play money" in page and "unpriced" in page
    PriceOverride.objects.create(project=project, model="house", input_nano=33 * USD, output_nano=44 * USD)
    page = listing(project, alice)
    assert "$33" in page and "$44" in page and "unpriced" not in page
