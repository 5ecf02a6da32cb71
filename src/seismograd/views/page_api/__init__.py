"""The questions of the page and their answers: over HTTP from `view`, or packed into the file of
`report`.
"""
