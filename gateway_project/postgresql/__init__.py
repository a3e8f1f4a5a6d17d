"""Django's PostgreSQL, without waiting for ever for a server that hangs."""
