"""How workers share a token: one of them fetches it, all of them find it, sealed."""
