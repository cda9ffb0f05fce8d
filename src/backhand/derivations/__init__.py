"""Derivations that people bring: how they are read, judged and explained."""
