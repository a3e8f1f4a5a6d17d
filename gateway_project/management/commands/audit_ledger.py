import sys
from typing import Any

from django.core.management.base import BaseCommand

from billing.audit import differences
from billing.ledger.inspection import current_state


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
