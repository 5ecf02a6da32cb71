"""A pyramid over the rows of a record: each level summarizes eight cells of the one below, so that
any view reads few bytes.
"""
