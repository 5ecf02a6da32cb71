"""The page: plain HTML, CSS and scripts without a build step, assembled by `document`."""
