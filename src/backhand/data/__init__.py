"""The data sets: loading, splitting and batching."""
