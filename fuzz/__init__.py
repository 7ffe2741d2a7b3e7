"""Coverage-guided fuzzing of the core; ``python -m fuzz TARGET`` runs one target, ``fuzz/run SECONDS`` all of them.

:mod:`fuzz.targets` has a function for each layer. That for the engine tells stories in a :class:`fuzz.world.World` of
peers (:mod:`fuzz.peers`), a store (:mod:`fuzz.store`) and a clock, in which :mod:`fuzz.promises` and
:mod:`fuzz.bounds` look for what must not happen.
"""
