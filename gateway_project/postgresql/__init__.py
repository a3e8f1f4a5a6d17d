"""PostgreSQL backend for Django that detects a server that hangs."""
