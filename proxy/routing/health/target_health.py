"""Health of the targets of this process: breakers, retry budgets, and usability of credentials."""

import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from projects.db.executor import db_executor, with_reconnect
from projects.redaction import redact
from proxy.models import Credential
from proxy.providers.catalog import DEMO
from proxy.routing.accounts import Account
from proxy.routing.health.breaker import Breaker
from proxy.routing.health.published import NOTHING_PUBLISHED, PublishedHealth
from proxy.routing.health.retry_budget import RetryBudget
from proxy.routing.health.usability import SHARED_THRESHOLD, Usability
from proxy.routing.targets import Candidate, Target
from proxy.upstream.failures import FailureClass

MAX_TARGETS = 10_000
"""The maximum number of targets whose health is kept.

Clients can name any model. If there are more targets, those that were not used for the longest time are
removed.
"""

MAX_COOL_DOWN_S = 60
"""The longest time for which a target is avoided after a rate limit. Most vendors count per minute."""

REPORT_INTERVAL_S = 300
"""Seconds after which the success of a credential is stored again."""

log = structlog.get_logger()

CredentialKey = tuple[int, str, str, int]
"""Project (0 for the operator's accounts), name, base URL, and hash of the secret.

A new secret is a new credential. The secret itself is not kept, because it may be the key of a client.
"""


def credential_key(project_id: int, account: Account) -> CredentialKey:
    owner = 0 if account.can_be_shared else project_id
    return owner, account.slug, account.base_url, hash(account.secret)


def shared_ids(owner: int, target: Target) -> tuple[str, str]:
    """Return the ids of a credential and of a target, which are the same in all processes."""
    account = target.account
    credential = f"{owner} {account.slug} {account.base_url} {account.secret}"
    return digest(credential), digest(f"{credential} {target.model}")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def failures_until_unusable(account: Account) -> float:
    """Return the consecutive failures that make an account unusable.

    A caller's account is always usable: no other account may take its place.
    """
    if account.is_callers:
        return math.inf
    return SHARED_THRESHOLD if account.can_be_shared else 1


@dataclass(slots=True, eq=False)
class TargetHealth:
    """The health of one target. `credential` is shared by all targets of the credential.

    `id` and `credential_id` are the same in all processes. When the state of the target or of the credential
    has changed, the target is added to `changes`.
    """

    key: CredentialKey
    id: str
    credential_id: str
    changes: "set[TargetHealth]"
    model: str
    provider: str
    credential: Usability
    access: Usability
    breaker: Breaker
    retry_budget: RetryBudget
    cool_down_until: float = 0.0

    def is_skipped(self, now: float) -> bool:
        """Return whether another target should be called instead, if there is one."""
        if now < self.cool_down_until:
            return True
        return self.credential.is_skipped(now) or self.access.is_skipped(now)

    def cool_down(self, now: float, retry_after_s: float) -> None:
        """Call other targets first after a rate limit, for the time that the provider states."""
        self.cool_down_until = now + min(retry_after_s, MAX_COOL_DOWN_S)

    def begin_call(self, now: float) -> bool:
        """Return whether a call may be made now.

        The call may be the probe of the breaker or the credential.
        """
        if not self.breaker.begin_call(now):
            return False
        if self.credential.begin_call(now) | self.access.begin_call(now):
            self.changes.add(self)
        return True

    def record_success(self, now: float) -> None:
        """Count a response that has ended well."""
        self.record_response()
        self.breaker.record_success(now)
        self.cool_down_until = 0.0
        if self.access.record_success():
            self.changes.add(self)
        recovered = self.credential.record_success()
        if recovered or now >= self.credential.next_report_at:
            self.report(now, "")
        if recovered:
            self.changes.add(self)
            log.info(
                "credential_usable",
                message="A provider accepts a credential again.",
                project_id=self.key[0] or None,
                credential=self.key[1],
            )

    def record_response(self) -> None:
        """Count a call to which the provider has responded, with any status."""
        if self.breaker.record_response():
            self.changes.add(self)

    def record_outage(self, now: float, reason: str) -> None:
        """Count a call that failed because of the provider."""
        if self.breaker.record_failure(now):
            self.log_open(reason)
        if self.breaker.is_open:
            self.changes.add(self)

    def record_rejection(self, now: float, kind: FailureClass, reason: str) -> None:
        """Count an error that is not an outage.

        The error may concern other requests too, for example if the provider has rejected the credential.
        """
        self.record_response()
        if kind is FailureClass.MODEL:
            self.access.record_failure(now, redact(reason))
        if kind is FailureClass.CREDENTIAL and self.credential.record_failure(now, reason):
            self.log_unusable(reason)
            self.report(now, f"The provider rejects requests of clients: {redact(reason)}")
        if not (self.credential.is_usable and self.access.is_usable):
            self.changes.add(self)

    def take_over(self, published: PublishedHealth, previous: PublishedHealth) -> None:
        """Take over the state of all processes. `previous` is the state at the last time."""
        id, credential_id = self.id, self.credential_id
        self.breaker.take_over(published.breakers.get(id), was_published=id in previous.breakers)
        self.access.take_over(published.access.get(id), was_published=id in previous.access)
        if any(changed.credential is self.credential for changed in self.changes):
            return
        self.credential.take_over(
            published.credentials.get(credential_id), was_published=credential_id in previous.credentials
        )

    def report(self, now: float, reason: str) -> None:
        """Store the result, which the page "Credentials" shows. No request waits until it is stored."""
        project_id, slug, *_ = self.key
        if project_id and self.credential.next_report_at < math.inf:
            self.credential.next_report_at = now + REPORT_INTERVAL_S
            db_executor.submit(with_reconnect, Credential.objects.store_live_result, project_id, slug, reason)

    def log_unusable(self, reason: str) -> None:
        log.error(
            "credential_unusable",
            message="A provider rejects a credential. The gateway uses other credentials, if there are any. "
            "Check the account at the provider.",
            project_id=self.key[0] or None,
            credential=self.key[1],
            reason=redact(reason),
        )

    def log_open(self, reason: str) -> None:
        log.warning(
            "circuit_breaker_opened",
            message="A provider fails repeatedly, so it is not called for some seconds.",
            project_id=self.key[0] or None,
            credential=self.key[1],
            model=redact(self.model),
            reason=redact(reason),
        )


async def claim_locally(id: str) -> bool:
    """Claim the probe of a breaker in the only process of a gateway."""
    return True


class HealthRegistry:
    """The health of all targets that this process has called, and what other processes have published."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.targets: OrderedDict[tuple[CredentialKey, str], TargetHealth] = OrderedDict()
        self.credentials: OrderedDict[CredentialKey, Usability] = OrderedDict()
        self.callers_targets: OrderedDict[tuple[CredentialKey, str], TargetHealth] = OrderedDict()
        """Targets of callers' accounts. A caller can invent keys, which must not evict other targets."""
        self.changes: set[TargetHealth] = set()
        self.published = NOTHING_PUBLISHED
        self.claim: Callable[[str], Awaitable[bool]] = claim_locally
        """Claims the probe of a breaker among all processes. The argument is the id of the target."""

    def of(self, project_id: int, target: Target) -> TargetHealth:
        """Return the health of a target."""
        key = credential_key(project_id, target.account)
        targets = self.callers_targets if target.account.is_callers else self.targets
        health = targets.get((key, target.model))
        if health is None:
            return self.add(key, target, targets)
        targets.move_to_end((key, target.model))
        return health

    def look_up(self, project_id: int, account: Account, model: str) -> TargetHealth:
        """Return the health of a model at an account, as far as any process knows it, without keeping it."""
        key = credential_key(project_id, account)
        return self.targets.get((key, model)) or self.create(key, Target(account, model, None))

    async def claim_probe(self, target: TargetHealth) -> bool:
        """Return whether this process makes the probe of a half-open breaker.

        The account of a caller is not shared with other processes.
        """
        return target.changes is not self.changes or await self.claim(target.id)

    def add(
        self,
        key: CredentialKey,
        target: Target,
        targets: OrderedDict[tuple[CredentialKey, str], TargetHealth],
    ) -> TargetHealth:
        health = self.create(key, target)
        if not target.account.is_callers:
            self.credentials[key] = health.credential
        targets[key, target.model] = health
        for kept in (targets, self.credentials):
            while len(kept) > MAX_TARGETS:
                kept.popitem(last=False)
        return health

    def create(self, key: CredentialKey, target: Target) -> TargetHealth:
        """Return the health of a target that this process has not called."""
        threshold = failures_until_unusable(target.account)
        credential = Usability(threshold)
        if target.account.is_callers or target.account.provider.slug == DEMO:
            # These are not credentials of the project.
            credential.next_report_at = math.inf
        if not target.account.is_callers:
            credential = self.credentials.get(key, credential)
        credential_id, id = shared_ids(key[0], target)
        health = TargetHealth(
            key,
            id,
            credential_id,
            set() if target.account.is_callers else self.changes,
            target.model,
            target.account.provider.slug,
            credential,
            Usability(threshold),
            Breaker(),
            RetryBudget(),
        )
        health.take_over(self.published, NOTHING_PUBLISHED)
        return health

    def preferred(self, project_id: int, candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
        """Return the candidates in the order in which they should be called.

        Candidates whose credential is unusable come last, so that the only credential is never taken away.
        """
        now = self.clock()
        skipped = [self.of(project_id, candidate.target).is_skipped(now) for candidate in candidates]
        if not any(skipped) or all(skipped):
            return tuple(candidates)
        order = sorted(range(len(candidates)), key=skipped.__getitem__)
        return tuple(candidates[index] for index in order)

    def take_changes(self) -> list[TargetHealth]:
        """Return the targets that have changed since the last call."""
        changed = list(self.changes)
        self.changes.clear()
        return changed

    def take_over(self, published: PublishedHealth) -> None:
        """Take over the state of all processes.

        Changes of this process that it has not sent yet take precedence.
        """
        for target in list(self.targets.values()):
            if target not in self.changes:
                target.take_over(published, self.published)
        self.published = published

    def __iter__(self) -> Iterator[TargetHealth]:
        return iter(self.targets.values())

    def clear(self) -> None:
        """Forget everything."""
        self.targets.clear()
        self.callers_targets.clear()
        self.credentials.clear()
        self.changes.clear()
        self.published = NOTHING_PUBLISHED


health = HealthRegistry()
