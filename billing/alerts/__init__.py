"""Alerts on budgets: `detect` finds the ones that are due, `deliver` sends their messages."""
