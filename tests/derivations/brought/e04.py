import numpy as np

def tanh(x):
    return np.tanh(x)

def tanh2deriv(output):
    return 1 - (output ** 2)

def softmax(x):
    temp = np.exp(x)
    return temp / np.sum(temp, axis=1, keepdims=True)

alpha, batch_size = 2, 7
weights_0_1 = 0.02 * np.random.random((4, 5)) - 0.01
weights_1_2 = 0.2 * np.random.random((5, 3)) - 0.1

def train_batch(images, labels, weights_0_1, weights_1_2):
    layer_0 = images
    layer_1 = tanh(np.dot(layer_0, weights_0_1))
    layer_2 = softmax(np.dot(layer_1, weights_1_2))

    layer_2_delta = (labels - layer_2) / (len(images) * layer_2.shape[0])
    weights_1_2 += alpha * layer_1.T.dot(layer_2_delta)
    layer_1_delta = layer_2_delta.dot(weights_1_2.T) * tanh2deriv(layer_1)
    weights_0_1 += alpha * layer_0.T.dot(layer_1_delta)
    return weights_0_1, weights_1_2
