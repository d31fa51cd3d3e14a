"""A deterministic explorer of schedules: the real core on simulated threads, loops and time.

A round is a seed. It makes a world (workers, keys, a service, a store, what goes wrong with them)
and a few actors, and lets them storm. One thread runs at a time, and at any source line of
tokenmgr's the seed decides whether another one goes on. When nobody can, the virtual clock jumps
to the next timeout; when there is none, that is a deadlock. A round that breaks a promise is told
with every thread's stack, and happens again with the same seed::

    cd tests
    python -m explorer --minutes 10
    python -m explorer --seed 4711

=============== ==================================================================================
``schedule``    who runs, and what time it is; a thread of it is a ``strand``
``strategies``  how a seed decides that
``simulated``   what stands in for threading's locks and threads, for time, and for event loops
``patches``     gives it to the core
``scene``       what a round is like
``service``     what gives tokens, and knows whether it was asked once, and not in vain
``world``       the store and the workers of a round
``storm``       what callers do to them
``calls``       what every call has to keep to
``promises``    what has to hold whenever nobody can go on, and in the end
``rounds``      a round from its seed to its end
``plants``      known bugs, which it has to find
=============== ==================================================================================
"""
