"""Acting on gradients: clipping, accumulation, several losses. Built on listening and measuring,
and works without a session as well.
"""
