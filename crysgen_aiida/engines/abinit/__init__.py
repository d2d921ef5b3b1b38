"""The engine ABINIT: density-functional perturbation theory for dielectric, piezoelectric and elastic tensors."""
