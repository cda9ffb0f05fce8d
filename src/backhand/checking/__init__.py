"""Verification and diagnosis: the gradient matrix, named mistakes, the live audit, the printed derivation."""
