"""The golden matrix: what clients write and providers answer in each format, and what must come of it in every other.

`asked_*.py` and `said_*.py` hold the inputs, by scenario and format, in the vendors' own words; None where a format has no words for
a scenario. `cells/` holds a file for each scenario with every cell: `tests.proxy.formats.golden.cells` writes those that are missing, to be
read before they are kept.
"""
