"""Whether a reference may judge stability: how well it gives back known distances to the hull.

Each row's own entry is left out, so that only what competes with it is tested. Rows in chemical systems that are
incomplete by the rule of :data:`~crysgen_aiida.physics.hull.MIN_COVERAGE`, which looks at no energy, are told apart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from crysgen_aiida.crystals.errors import EmptySet
from crysgen_aiida.crystals.table import ReferenceSet
from crysgen_aiida.physics.reference import Reference

#: An assessment passes with this share of labels reproduced within the window, on at least so many rows.
PASS_SHARE, PASS_WINDOW, PASS_ROWS, PASS_LABEL = 0.75, 0.010, 500, 0.005  # -, eV/atom, -, eV/atom


@dataclass(frozen=True)
class Errors:
    """Errors of distances to the hull.

    :param n: rows compared.
    :param within: of them within 10 meV/atom.
    :param flattered: of them too low by more: the reference lacks what competes with them.
    :param mae: mean absolute error [eV/atom], None without rows; ``bias`` likewise, negative where it flatters.
    """

    n: int
    within: int
    flattered: int
    mae: float | None
    bias: float | None

    @classmethod
    def of(cls, errors: np.ndarray) -> Errors:
        """Summarise errors [eV/atom], (n,)."""
        if not len(errors):
            return cls(0, 0, 0, None, None)
        size = np.abs(errors)
        within, flattered = int((size <= PASS_WINDOW).sum()), int((errors < -PASS_WINDOW).sum())
        return cls(len(errors), within, flattered, float(size.mean()), float(errors.mean()))


@dataclass(frozen=True)
class Assessment:
    """How well a reference reproduces known distances to the hull, each row's own entry removed.

    :param n: rows compared, those with a label above 5 meV/atom.
    :param within: share within 10 meV/atom.
    :param mae: mean absolute error [eV/atom].
    :param bias: mean error [eV/atom]; negative means that it flatters.
    :param passed: whether it may be called a judge of stability (>= 75 % within 10 meV/atom on >= 500 rows).
    :param complete: the same of the rows in complete chemical systems, ``incomplete`` of the others.
    """

    n: int
    within: float
    mae: float
    bias: float
    passed: bool
    complete: Errors
    incomplete: Errors


def assess_reference(
    reference: ReferenceSet,
    formulas: Sequence[str],
    energies: Sequence[float],
    labels: Sequence[float],
    *,
    tolerance: float = PASS_WINDOW,
) -> Assessment:
    """Compare a reference with labelled distances to the hull.

    :param energies: energy per atom of each row on the scale of the reference [eV/atom].
    :param labels: energy above hull of each row by the source of the labels [eV/atom].
    :param tolerance: within which a row's own entry is recognised by its energy [eV/atom].
    :raises EmptySet: if no row has a label above 5 meV/atom.
    """
    hull = Reference(reference).hull
    errors, doubtful = [], []
    for formula, energy, label in zip(formulas, energies, labels, strict=True):
        if not (np.isfinite(energy) and np.isfinite(label)) or label <= PASS_LABEL:
            continue
        point = hull.at(formula, without=float(energy), tolerance=tolerance)
        if point.energy is not None:
            errors.append(energy - point.energy - label)
            doubtful.append(point.incomplete is not None)
    if not errors:
        raise EmptySet("No row has a label above 5 meV/atom and all terminals: nothing can be assessed.")
    held, apart = np.array(errors), np.array(doubtful)
    whole = Errors.of(held)
    assert whole.mae is not None
    assert whole.bias is not None
    share = whole.within / whole.n
    passed = share >= PASS_SHARE and whole.n >= PASS_ROWS
    return Assessment(whole.n, share, whole.mae, whole.bias, passed, Errors.of(held[~apart]), Errors.of(held[apart]))


def with_assessment(reference: ReferenceSet, assessment: Assessment) -> ReferenceSet:
    """Return the reference with the assessment in its metadata."""
    return reference.with_metadata(assessment=asdict(assessment))


def wording(reference: ReferenceSet) -> str:
    """Return what a distance to this reference may be called: ``energy above hull`` or ``lower bound``."""
    passed = json.loads(reference.metadata.get("assessment", "{}")).get("passed", False)
    return "energy above hull" if passed else "lower bound"
