"""Numbers to disk and back: `pump` carries iterations off the training thread, `writer` records
them, `reader` opens a run.
"""
