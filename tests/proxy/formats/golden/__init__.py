"""The golden matrix: bodies in each format, and the results in every other format.

`request_*.py` and `response_*.py` hold the inputs by scenario and format, as the vendors write them; None if
a format does not support a scenario. `cells/` holds a file for each scenario with all its cells.
`tests.proxy.formats.golden.cells` writes the missing files, to be read before they are committed.
"""
