"""The data sets, each from its own source; their splits, and the batches that training takes from them."""
