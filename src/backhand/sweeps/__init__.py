"""Sweeps: what their jobs are, populations of networks trained in one step, searches, and what a sweep leaves."""
