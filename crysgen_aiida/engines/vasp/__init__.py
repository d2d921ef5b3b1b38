"""The engine ``vasp``: stages of a verification on the unmodified work chains of aiida-vasp."""
