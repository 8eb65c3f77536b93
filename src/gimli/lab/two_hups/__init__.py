"""Incident 1: one rotation sends HUP twice, and a monitor that takes over by a new process is doubled."""
