import fcntl
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from billing.audit import State, differences
from billing.ledger.inspection import postgresql_is_served, redis_state, sql_state


class Command(BaseCommand):
    help = "Checks that budgets, reservations, records and sums agree, also while the gateway serves. Exit status 1 if they do not."

    def handle(self, *_: Any, **__: Any) -> None:
        state = current_state()
        found = list(differences(state))
        for difference in found:
            self.stdout.write(str(difference))
        self.stdout.write(f"{len(state.windows)} windows, {len(state.held)} open reservations checked: {len(found)} differences.")
        if found:
            sys.exit(1)


def current_state() -> State:
    if settings.ENV.redis_url:
        return redis_state()
    return sql_state(served=postgresql_is_served() if settings.ENV.database_url else sqlite_is_served())


def sqlite_is_served() -> bool:
    """Whether a gateway process holds the lock beside its database (`lifespan.only_process_on`)."""
    try:
        with settings.ENV.sqlite_path.with_suffix(".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
