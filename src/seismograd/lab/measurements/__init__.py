"""What each experiment measures: real runs of small networks, on the CPU, in a second or two."""
