import sys
from typing import Any

from django.core.management.base import BaseCommand

from billing.ledger.inspection import audit_books


class Command(BaseCommand):
    help = "Checks that budgets, reservations, records and sums agree, also while the gateway serves. Exit status 1 if they do not."

    def handle(self, *_: Any, **__: Any) -> None:
        audit = audit_books()
        for difference in audit.found:
            self.stdout.write(str(difference))
        for overrun in audit.overruns:
            self.stdout.write(str(overrun))
        for project_id, waiting in audit.uncompared.items():
            self.stdout.write(f"project {project_id}: {waiting} records wait to be written: not compared")
        self.stdout.write(f"{audit.windows} windows, {audit.held} open reservations checked: {len(audit.found)} differences.")
        if audit.found:
            sys.exit(1)
