"""Present records and findings as words, tables and JSON. Importing this package loads nothing;
`views.forms` lists the formats.
"""

from __future__ import annotations
