"""Look up the prices of models that a project has used, by the provider or credential of a record."""

from datetime import datetime

from billing.pricing import Price
from billing.pricing.price_list import load_price_list
from projects.models import Project
from proxy.models import Credential
from proxy.providers import demo
from proxy.providers.catalog import DEMO, PROVIDERS
from proxy.routing.accounts import load_operator_accounts


class ProviderPrices:
    """The prices of one project.

    The credentials and the price list of the project are read once, in the constructor.
    """

    def __init__(self, project: Project) -> None:
        self.price_list = load_price_list(project.pk)
        credentials = Credential.objects.for_project(project).values_list("slug", "provider", "base_url")
        self.places = {
            **{
                account.slug: (account.provider.slug, account.base_url)
                for account in load_operator_accounts()
            },
            **{slug: (provider, base_url) for slug, provider, base_url in credentials},
        }
        """The provider and the base URL of each account, by the account's name."""

    def price_at(self, account: str, model: str, at: datetime) -> Price | None:
        """Return the price of a model at a moment, or None if no price is known.

        `account` is the value of `provider` in usage records: the name of a credential of the project, or of
        a provider. If no credential has this name, because it was deleted, the name is looked up as a
        provider.
        """
        if account == DEMO:
            return demo.PRICE
        slug, base_url = self.places.get(account, (account, ""))
        if slug not in PROVIDERS:
            return self.price_list.find((account, slug), "", model, at)
        provider = PROVIDERS[slug]
        regional = provider.is_regional(base_url)
        return self.price_list.find((account, slug), provider.pricing_provider, model, at, regional=regional)
