"""Act on gradients: clipping, accumulation, several losses. Built on capture and measure; also
works without a session.
"""
