"""The data sets: what they are (`catalogue`), their splits, and the batches that training takes from them."""
