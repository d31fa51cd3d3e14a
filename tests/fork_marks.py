"""Marks of tests that fork, or raise signals."""

from __future__ import annotations

import os
import signal

import pytest

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

#: Python 3.12 warns of what is proven here to be safe.
unwarned_forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

needs_signals = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="this system has no timers that raise signals"
)
