"""Scripted provider of all four wire formats that rejects what the vendors reject.

Its model calls a tool, then two tools at once, and then writes a text with a marker. If an agent shows the
marker, its loop was successful: it has sent back all calls, results, ids and signatures as the vendor
requires.
"""
