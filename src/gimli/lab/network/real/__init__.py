"""The same topology on the real kernel: namespaces, bridges, TCP, and the model of pf on NFQUEUE."""
