"""Quantum ESPRESSO through the work chains of aiida-quantumespresso."""
