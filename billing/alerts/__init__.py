"""Alerts on budgets: `watch` finds what has reached a threshold, `outbox` delivers the messages that follow from it."""
