"""Alerts on budgets: `watch` finds what has reached a threshold, `stream_key` delivers the messages that follow from it."""
