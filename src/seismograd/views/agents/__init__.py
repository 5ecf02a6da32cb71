"""What a language model is told of runs: the answers of other views as bounded data."""
