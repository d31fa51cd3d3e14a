"""Marks of tests that fork."""

from __future__ import annotations

import os

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

#: Python 3.12 warns of what is proven here to be safe.
unwarned_forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
