"""Sweeps: their jobs, populations of networks that are trained together, searches, and the summary."""
