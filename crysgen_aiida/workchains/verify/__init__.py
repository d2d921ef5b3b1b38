"""Verification: what a design claims of its candidates, computed stage by stage, and returned to their rows."""
