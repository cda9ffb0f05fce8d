"""What a run writes for people to read: metrics by epoch, W&B, pictures, result.json and the final table."""
