"""The golden matrix: bodies in each format, and the results in every other format.

`request_*.py` and `response_*.py` contain the inputs, by scenario and format; None if a format does not
support a scenario. `cells/` contains one file for each scenario with all its cells.
`tests.proxy.formats.golden.cells` writes missing files. Read them before you commit them.
"""
