"""The lab: small real data sets, and experiments that teach."""
