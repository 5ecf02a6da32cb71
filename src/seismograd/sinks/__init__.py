"""Send the numbers of a run to trackers, beside its record: one core, thin adapters."""
