"""Write numbers to disk and read them back: `writer` records iterations, `reader` opens a run."""
