"""Incidents of networks: firewalls in pairs, balancers, switches, and the connections that cross them."""
