"""The laboratory: incidents replayed, simulated and for real, and explained by switching causes."""
