"""What was recorded and found, in words, tables and JSON. Importing this package loads nothing;
`views.forms` lists the forms.
"""

from __future__ import annotations
