"""The ways to ask for a token, one module for each."""
