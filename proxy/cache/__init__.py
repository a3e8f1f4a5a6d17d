"""Response cache: stores the responses of a project, for its identical requests."""
