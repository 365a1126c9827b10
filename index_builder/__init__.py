"""The knowledge of Majlis, built offline: read, encode, store, search, evaluate, train."""
