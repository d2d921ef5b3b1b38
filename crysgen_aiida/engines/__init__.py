"""Engines: one contract for whatever computes a property of a crystal from first principles (or by a potential)."""
