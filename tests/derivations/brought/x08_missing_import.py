import numpy as np
import my_layers_from_last_year as layers


def backward(x, y, W1, b1, W2, b2):
    return layers.two_layer_gradients(np.asarray(x), y, W1, b1, W2, b2)
