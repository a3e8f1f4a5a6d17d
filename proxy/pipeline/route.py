"""The stage `route`: choose the account and model for a request, and plan how to send it."""

from dataclasses import dataclass

from billing.ledger import UsageEntry
from keys.authentication import Principal
from projects.redaction import contains_key, redact
from proxy import errors, telemetry
from proxy.errors import GatewayError
from proxy.formats.codec import ClientRequest
from proxy.formats.neutral import InvalidRequest, UnsupportedFeature
from proxy.http.responses import Headers
from proxy.pipeline import account_ids, conversion
from proxy.pipeline.parse import Parsed
from proxy.routing import resolve
from proxy.routing.caller_accounts import resolve_with_key
from proxy.routing.routes.rules import RuleInput
from proxy.routing.targets import Candidate, Resolution, Target

BACKGROUND_WITH_PROVIDER_KEY = (
    "A response in the background would be fetched after its request has ended, and the gateway does not "
    "store the provider key of a caller. Leave out background and stream the response."
)


@dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """A request with the targets that serve its model: at least one."""

    parsed: Parsed[ClientRequest]
    resolution: Resolution

    @property
    def targets(self) -> tuple[Target, ...]:
        """Return the targets in the order in which they are called."""
        return self.resolution.targets

    @property
    def target(self) -> Target:
        """Return the first target: its price applies, and it is called first."""
        return self.targets[0]

    @property
    def provider(self) -> str:
        """Return the provider of the first target."""
        return self.target.account.provider.slug

    def headers(self, target: Target | None = None) -> Headers:
        """Return the caller's headers, those of the resolution, and those that name the target.

        If no target is given, the first one is named.
        """
        target = target or self.target
        return {
            **self.parsed.headers(),
            **self.resolution.headers,
            "x-gateway-provider": target.account.slug,
            "x-gateway-model": target.model,
        }

    def usage_entry(self, target: Target | None = None) -> UsageEntry:
        """Return the usage record with the target, and the target's price in the standard tier."""
        entry, target = self.parsed.usage_entry(), target or self.target
        entry.provider, entry.provider_model = target.account.slug, redact(target.model)
        entry.price = target.price and target.price.for_tier()
        return entry


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A request with a plan for each target: pass-through or conversion.

    The first candidate is called next. The others are its fallbacks.
    """

    routed: Routed
    candidates: tuple[Candidate, ...]

    @property
    def candidate(self) -> Candidate:
        """Return the first candidate: its price applies, and it is called next."""
        return self.candidates[0]

    def headers(self) -> Headers:
        """Return the headers of a routed request, which name the first candidate."""
        return self.routed.headers(self.candidate.target)

    def usage_entry(self) -> UsageEntry:
        """Return the usage record of a routed request, with the first candidate."""
        return self.routed.usage_entry(self.candidate.target)


async def route(parsed: Parsed[ClientRequest]) -> Routed:
    """Find the targets that serve the model.

    Raises InvalidRequest, or GatewayError if the key may not use the model.
    """
    principal, model = parsed.caller.principal, parsed.client_request.facts.model
    check_model_name(principal, model)
    routed = Routed(parsed, await resolve_for(parsed))
    telemetry.request_routed(parsed.caller.received.operation.api_family, routed.provider)
    return routed


async def resolve_for(parsed: Parsed[ClientRequest]) -> Resolution:
    """Return the targets for a request, with the caller's own key for the provider if it has one.

    Raises GatewayError or UnsupportedFeature.
    """
    caller, facts = parsed.caller, parsed.client_request.facts
    tags = parsed.metadata.tags
    given = RuleInput(caller.principal.public_id, caller.received.request, parsed.client_request, tags)
    if not caller.provider_key:
        return await resolve.resolve(caller.principal, facts.model, given)
    if facts.is_background:
        raise UnsupportedFeature(BACKGROUND_WITH_PROVIDER_KEY, "background")
    return await resolve_with_key(
        caller.principal, facts.model, given, caller.provider_key, is_anonymous=caller.is_anonymous
    )


def check_model_name(principal: Principal, model: str) -> None:
    """Check the model's name.

    Raises InvalidRequest for a malformed name, and GatewayError for a model that the key may not use.
    """
    if not model.isprintable():
        raise InvalidRequest("The model name contains unprintable characters.", "model")
    if contains_key(model):
        # The name is sent to the provider unchanged, in the body or the URL.
        text = "The model's name contains an API key. Send the key in the authorization header only."
        raise InvalidRequest(text, "model")
    if not principal.allows_model(model):
        raise errors.model_not_allowed(model)


async def plan(routed: Routed) -> Planned:
    """Plan how to call each target. A target that cannot serve the request is left out.

    If none is left, this raises the error of the first one: InvalidRequest, or GatewayError if the provider's
    format cannot express the operation or the request names an id of another project. Raises DatabaseError if
    ids cannot be looked up.
    """
    candidates, failures = [], []
    parsed = routed.parsed
    project_id = parsed.caller.principal.project_id
    for target in await account_ids.keep_issuers(project_id, routed.targets, parsed.client_request):
        try:
            candidates.append(await plan_target(routed, target))
        except (InvalidRequest, GatewayError) as error:
            failures.append(error)
    if not candidates:
        raise failures[0]
    return Planned(routed, tuple(candidates))


async def plan_target(routed: Routed, target: Target) -> Candidate:
    """Return a target with its plan. Raises InvalidRequest, GatewayError or DatabaseError."""
    caller, client_request = routed.parsed.caller, routed.parsed.client_request
    candidate = Candidate(target, conversion.plan_request(caller.received.operation, client_request, target))
    await account_ids.check(caller.principal.project_id, target.account, candidate.plan)
    return candidate
