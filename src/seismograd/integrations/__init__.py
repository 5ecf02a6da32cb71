"""Callbacks for frameworks that have a training loop of their own; none is imported unless used."""
