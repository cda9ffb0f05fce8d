"""Feedback alignment, as a function of one's own.

python train.py model.gradient=examples/feedback_alignment.py:hidden_delta

Backpropagation carries the error back through the transposed weight, δ_I = (δ_O W_Oᵀ) ⊙ g′(z_I). Lillicrap et al.
(2016) put a fixed random matrix in its place, and the network learns all the same: its weights turn towards the matrix.
"""


def hidden_delta(delta, W, slope, layer):
    """δ of a hidden layer, from the δ and the weight of the layer above and the slope g′(z)."""
    B = layer.fixed("B", like=W)
    return (delta @ B.mT) * slope
