"""The page over HTTP, for a run in progress or finished: Starlette, in a process of its own, for
this machine alone.
"""
