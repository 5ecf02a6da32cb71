"""A run in one file to mail: as a page, as Markdown, as JSON."""
