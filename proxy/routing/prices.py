"""Prices of the models that a project has used, found by the provider or credential of a record."""

from datetime import datetime

from billing.pricing import Price
from billing.pricing.price_list import load_price_list
from projects.models import Project
from proxy.models import Credential
from proxy.providers import demo
from proxy.providers.catalog import DEMO, PROVIDERS


class ProviderPrices:
    """The prices of one project: its credentials and price list are read once, when this is created."""

    def __init__(self, project: Project) -> None:
        self.price_list = load_price_list(project.pk)
        self.provider_by_credential = dict(
            Credential.objects.for_project(project).values_list("slug", "provider")
        )

    def price_at(self, account: str, model: str, at: datetime) -> Price | None:
        """Return the price of a model at a moment, or None if no price is known.

        `account` is the name that records have in `provider`: a credential of the project, or a provider. The
        credential may have been deleted since; its name is then looked up as a provider's.
        """
        if account == DEMO:
            return demo.PRICE
        slug = self.provider_by_credential.get(account, account)
        pricing_provider = PROVIDERS[slug].pricing_provider if slug in PROVIDERS else ""
        return self.price_list.find((account, slug), pricing_provider, model, at)
