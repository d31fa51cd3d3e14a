"""The figures of docs/benchmarks.md, measured side by side in one run: ``make bench``.

Absolute times differ from machine to machine, and from minute to minute on the same one. What is
compared is therefore timed in turns, round after round, and the ratio is the median of the
rounds' ratios.
"""
