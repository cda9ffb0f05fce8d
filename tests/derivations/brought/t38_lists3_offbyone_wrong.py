import numpy as np
ACT = {'tanh': (np.tanh, lambda a: 1 - a * a), 'relu': (lambda z: z * (z > 0), lambda a: (a > 0) * 1.0), 'linear': (lambda z: z, lambda a: np.ones_like(a))}

class Net:
    def __init__(self, sizes, acts=('relu', 'tanh', 'linear')):
        self.Ws = [np.random.randn(i, o) / np.sqrt(i) for i, o in zip(sizes, sizes[1:])]
        self.bs = [np.zeros(o) for o in sizes[1:]]
        self.acts = acts

    def gradients(self, X, T):
        As = [X]
        for W, b, name in zip(self.Ws, self.bs, self.acts):
            As.append(ACT[name][0](As[-1] @ W + b))
        dWs, dbs = [], []
        delta = (As[-1] - T) / len(X)
        for i in reversed(range(len(self.Ws))):
            delta = delta * ACT[self.acts[i - 1]][1](As[i + 1])
            dWs.insert(0, As[i].T @ delta)
            dbs.insert(0, delta.sum(axis=0))
            delta = delta @ self.Ws[i].T
        return dWs, dbs
