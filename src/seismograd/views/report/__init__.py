"""A run in one file that can be mailed: as a page, as Markdown, as JSON."""
