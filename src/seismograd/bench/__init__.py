"""Measure on the user's machine what watching a training costs, next to other ways of inspecting
gradients. Uses torch.
"""
