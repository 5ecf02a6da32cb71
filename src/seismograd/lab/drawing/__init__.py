"""Draw a page: on the terminal, as HTML, SVG and PNG."""
