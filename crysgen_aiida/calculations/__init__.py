"""Calculation jobs that run the worker, the parser that reads its result, and the small functions around them."""
