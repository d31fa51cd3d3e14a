"""The last metre: a bearer for each HTTP client, one module per client, the same names in each."""
