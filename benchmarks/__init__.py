"""What seismograd costs, and that it leaves real programs as they are: scripts to run by hand."""
