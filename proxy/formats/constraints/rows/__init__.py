"""The rows of the table of constraints, in one module for each subject."""
