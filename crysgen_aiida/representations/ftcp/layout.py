"""Where what lies in an FTCP matrix."""

from __future__ import annotations

from dataclasses import dataclass

from crysgen_aiida.representations.ftcp.spec import ELEMENTS, PROPERTIES, FtcpSpec


@dataclass(frozen=True)
class Layout:
    """Rows and columns of the blocks of a matrix (Ren et al., Matter 5, 314 (2022), Figure 2 and its procedures).

    ===================  ======================================  ==============
    rows                 ``left`` columns                        ``right``
    ===================  ======================================  ==============
    ``elements``         one-hot of the element of each column   0
    ``lengths``          a, b, c [A]                             0
    ``angles``           alpha, beta, gamma [degrees]            0
    ``coords``           fractional x, y, z of each site         0
    ``occupancy``        one-hot of the column of its element    0
    ``distance``         0                                       |g_hkl| [1/A]
    ``properties``       CGCNN vector of the element             F_hkl
    ===================  ======================================  ==============
    """

    elements: slice
    lengths: int
    angles: int
    coords: slice
    occupancy: slice
    distance: int
    properties: slice
    xyz: slice  #: the three columns of lattice and coordinates
    species: slice  #: the columns of the elements, as many as the spec has
    right: slice  #: the columns of the k-points


def layout(spec: FtcpSpec) -> Layout:
    """Return the layout of the matrices of a spec."""
    n = spec.max_sites
    coords = ELEMENTS + 2
    distance = coords + 2 * n
    return Layout(
        elements=slice(0, ELEMENTS),
        lengths=ELEMENTS,
        angles=ELEMENTS + 1,
        coords=slice(coords, coords + n),
        occupancy=slice(coords + n, distance),
        distance=distance,
        properties=slice(distance + 1, distance + 1 + PROPERTIES),
        xyz=slice(0, 3),
        species=slice(0, spec.max_elements),
        right=slice(max(3, spec.max_elements), spec.columns),
    )
