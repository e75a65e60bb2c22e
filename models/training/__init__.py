"""Training, evaluation and export of the network."""
