"""A PostgreSQL backend for Django that detects hung servers."""
