"""Capture: a process becomes a core file and its facts, in a short-lived helper of its own.

The contract with the monitor is docs/reference/capture.md. Standard library only, and little of that: the
time from the helper's start to the message ``released`` is time that a service is down.
"""
