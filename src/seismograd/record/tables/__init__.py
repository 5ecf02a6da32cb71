"""A run as tables with named columns, for Arrow, pandas, Polars and xarray."""
