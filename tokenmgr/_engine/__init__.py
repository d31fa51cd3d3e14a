"""How one token stays fresh."""
