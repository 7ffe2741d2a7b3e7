"""Coverage-guided fuzzing of the core; ``python -m fuzz TARGET`` runs one target, ``fuzz/run SECONDS`` all of them."""
