"""Checks rendered requests against the table of what vendors reject.

The checker uses the same data as the gateway, but none of the code that adapts requests: it reads the JSON
that the gateway sends.
"""

from tests.support.vendor_checker.checks import violations

__all__ = ["violations"]
