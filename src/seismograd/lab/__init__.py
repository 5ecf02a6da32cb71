"""The lab: small real data sets, and educational experiments."""
