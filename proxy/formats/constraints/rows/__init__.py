"""The rows of the table of constraints, by what they are about."""
