"""What the process gives: its clocks, its forks, its threads, and what keeps secrets in it."""
