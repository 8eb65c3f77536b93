"""Two hosts that share an address and its connections: CARP, state replication, and a guard."""
