"""How well seismograd names faults that were put into programs which it has never seen."""
