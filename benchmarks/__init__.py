"""What seismograd costs, and how right it is."""
