"""Verification: gradcheck of every combination, the live audit, alignment angles, and the printed derivation."""
