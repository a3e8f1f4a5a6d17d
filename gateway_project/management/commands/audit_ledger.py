import sys
from typing import Any

from django.core.management.base import BaseCommand

from billing.ledger.audit.run import run_audit


class Command(BaseCommand):
    help = (
        "Checks that budgets, reservations, records and daily sums agree. The exit status is 1 if they do "
        "not. The command can run while the gateway runs."
    )

    def handle(self, *_: Any, **__: Any) -> None:
        audit = run_audit()
        for difference in audit.mismatches:
            self.stdout.write(str(difference))
        for overrun in audit.overruns:
            self.stdout.write(str(overrun))
        for project_id, waiting in audit.skipped_backlogs.items():
            self.stdout.write(f"project {project_id}: {waiting} records wait to be written: not compared")
        self.stdout.write(
            f"{audit.windows} windows, {audit.open_reservations} open reservations checked: "
            f"{len(audit.mismatches)} differences."
        )
        if audit.mismatches:
            sys.exit(1)
