"""The page: HTML, CSS and scripts as they are, without a build step, put together by `document`."""
