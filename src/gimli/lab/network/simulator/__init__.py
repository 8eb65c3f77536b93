"""A network that does not exist: virtual time, frames without bytes, everything random from one seed."""
