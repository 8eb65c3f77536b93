"""Why did it happen? A core and its facts become a report.

The only part of gimli that loads debuggers (drgn, pystack), always in a process of its own
(docs/reference/capture.md).
"""
