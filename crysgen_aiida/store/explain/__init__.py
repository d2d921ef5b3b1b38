"""Why a candidate is where it is, what became of a run, and what a set, a generator or a seed led to."""
