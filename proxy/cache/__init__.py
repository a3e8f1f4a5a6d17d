"""Response cache: stores responses, and returns them for identical requests of the same project."""
