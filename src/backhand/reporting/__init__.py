"""The output of a run: metrics by epoch, W&B, plots, result.json, the summary and the report."""
