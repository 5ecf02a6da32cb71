"""What each experiment shows: its page, from what was measured."""
