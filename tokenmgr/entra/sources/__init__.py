"""Credentials that give an app's tokens by themselves: managed identities, and those of others."""
