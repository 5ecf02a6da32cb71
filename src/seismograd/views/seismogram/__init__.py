"""The seismogram: one trace per layer, stacked like the channels of a seismograph."""

from __future__ import annotations
