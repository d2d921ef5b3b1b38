"""Candidates as one reads them: found, joined, ranked and traced back to their origin."""
