"""Alerts on budgets: `detect` creates the alerts that are due, and `deliver` sends their messages."""
