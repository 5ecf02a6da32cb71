"""Measures on the user's machine what watching a training costs, next to other ways of looking
at gradients. Uses torch.
"""
