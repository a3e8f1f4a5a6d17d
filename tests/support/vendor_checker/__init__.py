"""Check of a rendered request against the table of what vendors reject.

It shares the data with the gateway, and none of the code that adapts requests: it reads the JSON that leaves.
"""

from tests.support.vendor_checker.checks import violations

__all__ = ["violations"]
