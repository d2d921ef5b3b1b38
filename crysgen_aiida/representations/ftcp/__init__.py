"""FTCP: crystals as matrices of real-space and reciprocal-space features, and back."""
