"""Scripted provider of all four wire formats that refuses what the vendors refuse.

Its model runs a tool, then two tools at once, and then writes a text with a marker. So an agent that reports
the marker has finished its loop: every call, result, id and signature came back as the vendor demands it.
"""
