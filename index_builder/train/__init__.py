"""How the bundled models were made, runnable again. Training data is given by path and never part of the repository."""
