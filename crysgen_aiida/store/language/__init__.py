"""The filter language: text to frozen dataclasses to SQLAlchemy expressions.

``band_gap > 1.5 and elements has Bi and e_above_reference < 50 meV/atom and method(band_gap) = 'pbe-mp2020'``

A missing value satisfies no comparison, nor the negation of one. Nothing of the text becomes SQL: columns are looked
up, values are bound.
"""

from crysgen_aiida.store.language.compiler import compile_filter
from crysgen_aiida.store.language.nodes import Expression
from crysgen_aiida.store.language.parser import parse, parse_operand

__all__ = ["Expression", "compile_filter", "parse", "parse_operand"]
