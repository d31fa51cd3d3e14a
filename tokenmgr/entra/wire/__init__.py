"""HTTP to the authority."""
