"""The control socket: how the command line talks to a monitor that runs."""
