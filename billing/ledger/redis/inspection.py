"""What Redis says of a project, with what the database says as of the same moment, for the audit."""

from collections.abc import Iterator
from datetime import timedelta

from billing.ledger.audit import Difference, Held, State, Window
from billing.ledger.records import budgets_of, existing, one_moment, records_of
from billing.ledger.redis import reader
from billing.ledger.redis.opening import KEPT_AFTER_END
from billing.ledger.steps import decode_draft
from billing.ledger.windows import window_name
from billing.models import Budget, Outbox

ATTEMPTS = 20


class Unsettled(Exception):
    """The books moved on at every look."""


def redis_books(project_id: int) -> State:
    """The records up to an event of the outbox, and what Redis says with the events after that one; nothing of either where the outbox
    is too long to be read. Raises Unsettled where events left it, while it was read, at every attempt: nothing else is asked between
    the two."""
    names = recent_windows(budgets_of(project_id))
    for _ in range(ATTEMPTS):
        with one_moment():
            drained = Outbox.objects.filter(project=project_id).first()
            through = f"{drained.drained_ms}-{drained.drained_seq}" if drained else "0-0"
            match reader.snapshot(project_id, through, names):
                case reader.Snapshot() as snapshot:
                    return state_of(project_id, snapshot)
                case reader.Backlog(waiting):
                    return State(project_id, waiting=waiting)
                case None:
                    continue
    raise Unsettled(f"project {project_id}")


def state_of(project_id: int, snapshot: reader.Snapshot) -> State:
    """An event may be in the database before it is noted there how far its outbox was taken."""
    kept = existing([entry.id for entry in snapshot.events])
    state = State(project_id, budgets_of(project_id), events=[entry for entry in snapshot.events if entry.id not in kept])
    state.windows = [Window(*each) for each in snapshot.windows if each[0] in state.budgets]
    state.held = [held_in_redis(each, snapshot.living) for each in snapshot.held]
    state.faults = list(faults(project_id, snapshot))
    state.records = records_of(state)
    state.records.ended |= {entry.id for entry in snapshot.events}
    return state


def held_in_redis(each: reader.Held, living: set[str]) -> Held:
    draft = decode_draft(each.draft)
    orphaned = each.process not in living
    return Held(each.id, each.key_id, each.day, draft.created_at, each.amount, frozenset(each.windows), orphaned, draft.unchecked)


def faults(project_id: int, snapshot: reader.Snapshot) -> Iterator[Difference]:
    for window, amounts in snapshot.illegible:
        yield Difference("I5", f"budget {window.replace('/', ', window ')}: spent and reserved", "whole numbers", amounts)
    for window in snapshot.unlisted:
        yield Difference("I5", f"budget {window.replace('/', ', window ')}: in the list of open windows", 1, 0)
    if not snapshot.is_drained:
        yield Difference("I4", f"project {project_id}: among those whose records are taken to the database", 1, 0)


def recent_windows(budgets: dict[int, Budget]) -> list[str]:
    """Those that Redis keeps if any request has asked of them."""
    days = range(KEPT_AFTER_END.days + 1)
    names = {
        f"{budget.pk}/{window_name(budget.period, budget.project.today() - timedelta(days=ago))}"
        for budget in budgets.values()
        for ago in days
    }
    return sorted(names)
