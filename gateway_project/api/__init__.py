"""The management API below `/api/v1/`, built with Django REST framework (ADR 24)."""
