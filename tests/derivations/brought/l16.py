import numpy as np

rng = np.random.default_rng(3)
X = rng.normal(size=(40, 3))
Y = rng.normal(size=(40, 2))


class Dense:
    def __init__(self, n_in, n_out):
        self.W = rng.normal(size=(n_in, n_out)) * 0.5
        self.b = np.zeros(n_out)


layers = [Dense(3, 5), Dense(5, 4), Dense(4, 2)]
lr = 0.01
for epoch in range(100):
    acts = [X]
    for i, layer in enumerate(layers):
        z = acts[-1] @ layer.W + layer.b
        acts.append(np.tanh(z) if i < 2 else z)
    delta = 2 * (acts[-1] - Y) / Y.size
    for i in (2, 1, 0):
        layer = layers[i]
        dW, db = acts[i].T @ delta, delta.sum(axis=0)
        delta = (delta @ layer.W.T) * (1 - acts[i] ** 2)
        layer.W -= lr * dW
        layer.b -= lr * db
