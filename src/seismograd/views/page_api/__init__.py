"""What the page asks of a run, and the answers: over HTTP from `view`, or packed into the file
of `report`.
"""
